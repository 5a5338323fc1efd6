"""What a run tells the world: metrics.jsonl, TensorBoard events, status.json, and a log for people.

Owned by the first rank; on the others only the log exists. Every number goes to metrics.jsonl first,
and nothing ever parses the log. TensorBoard tags and units are Megatron-LM's for the same values.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from qad_core.config.environment import ENVIRONMENT_KEYS
from qad_core.config.schema import RunConfig
from qad_core.run.calibration import UnseenLayer, write_unseen
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, MetricsWriter, Number
from qad_core.run.status import Phase, Status, read_status, write_status

_TENSORBOARD_TAGS = {
    "loss/kd": ("logits distillation loss", 1),
    "loss/ce": ("lm loss", 1),
    "loss/intermediate": ("intermediate distillation loss", 1),
    "learning_rate": ("learning-rate", 1),
    "grad_norm": ("grad-norm", 1),
    "step_ms": ("iteration-time", 0.001),
    "tokens_per_s": ("tokens-per-second", 1),  # `throughput` is Megatron-LM's TFLOP/s
    "memory_gib": ("mem-allocated-bytes", 2**30),
    "eval/kl": ("logits distillation loss validation", 1),
    "eval/ce": ("lm loss validation", 1),
    "eval/perplexity": ("lm loss validation ppl", 1),
    "eval/teacher_ce": ("teacher lm loss validation", 1),
    "eval/top1_agreement": ("top-1 agreement validation", 1),
}
"""Our key -> the tag, and what its value is multiplied by for the tag's unit."""
# Only names that say something about a run are shown, so that a secret of any name stays out of the log.
_SHOWN_NAMES = re.compile(
    r"(CUDA|NCCL|GLOO|OMP|MKL|MALLOC|TORCH|PYTORCH|TRITON|NVTE|SLURM|QAD|LOCAL_|MASTER_)[A-Z0-9_]*"
    r"|RANK|WORLD_SIZE|PATH|PYTHONPATH|LD_LIBRARY_PATH|HOSTNAME"
)
_SECRET_WORDS = re.compile(r"TOKEN(?!IZER)|SECRET|PASS|CREDENTIAL|KEY|AUTH|JWT")

PROGRESS_SECONDS = 10.0
"""Between two words on a long phase."""
log = logging.getLogger("qad")


class Reporter:
    """One run's voice; all methods are cheap and local to this rank."""

    def __init__(self, folder: RunFolder, config: RunConfig, *, rank: int, started: float) -> None:
        self._folder = folder
        self._config = config
        self._speaks = rank == 0
        self._status = Status(
            phase="starting",
            train_iterations=config.train.train_iterations,
            started=started,
            pid=os.getpid(),
            host=platform.node(),
        )
        self._progress_told = time.monotonic()
        self._metrics: MetricsWriter | None = None
        self._events: SummaryWriter | None = None
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(started))
        folder.logs.mkdir(parents=True, exist_ok=True)
        suffix = "" if rank == 0 else f"_rank{rank}"
        _start_log(folder.logs / f"{config.model.name}_qad_{stamp}{suffix}.log", to_terminal=rank == 0)
        if self._speaks:
            _write_environment(folder.logs / f"{config.model.name}_{stamp}.env.log")

    def phase(self, phase: Phase, detail: str = "") -> None:
        """Say what the trainer is at now."""
        log.info("%s%s", phase, f": {detail}" if detail else "")
        self._progress_told = time.monotonic()
        self._update(phase=phase)

    def progress(self, done: int, sequences: int) -> None:
        """Say how far a phase is that takes long, now and then: in the log, and as a sign of life."""
        if time.monotonic() - self._progress_told >= PROGRESS_SECONDS:
            self._progress_told = time.monotonic()
            log.info("%s: %d of %d sequences", self._status.phase, done, sequences)
            self._update()

    def keep_unseen(self, unseen: Sequence[UnseenLayer]) -> None:
        """Keep which experts calibration has not seen for whoever looks at the run later."""
        if self._speaks and unseen:
            write_unseen(self._folder.calibration, unseen)

    def stands_at(self, step: int) -> None:
        """Say which checkpoint the run goes on from, before it is loaded."""
        self._update(step=step, checkpoint_step=step)

    def open_metrics(self, step: int) -> None:
        """Go on after `step`: lines of later steps, which a stopped run wrote after its checkpoint, are dropped."""
        self._update(step=step)
        if self._speaks:
            self._metrics = MetricsWriter(self._folder.metrics, keep_through_step=step)
            folder = self._folder.tensorboard(self._config.model.name)
            self._events = SummaryWriter(str(folder), purge_step=step + 1)

    def append_evaluation(self, line: MetricsLine) -> None:
        """Report an evaluation outside training: no line of the run is dropped."""
        if self._speaks:
            self._metrics = MetricsWriter(self._folder.metrics)
        self.evaluation(line)

    def step(self, line: MetricsLine) -> None:
        """Report one optimizer step."""
        self._write(line)
        self._update(phase="training", step=int(line["step"] or 0))
        loss_key = "loss/kd" if line.get("loss/kd") is not None else "loss/ce"
        log.info(
            "iteration %d/%d | %s %s | learning rate %.3e | grad norm %s | %.0f ms | %.0f tokens/s%s",
            line["step"],
            self._status.train_iterations,
            loss_key,
            _show(line.get(loss_key)),
            line["learning_rate"] or 0.0,
            _show(line["grad_norm"]),
            line["step_ms"] or 0.0,
            line["tokens_per_s"] or 0.0,
            " | SKIPPED" if line["skipped"] else "",
        )

    def evaluation(self, line: MetricsLine) -> None:
        """Report one evaluation."""
        self._write(line)
        log.info(
            "evaluation at step %d | KL %s | cross-entropy %s (teacher %s) | perplexity %s | top-1 agreement %s",
            line["step"],
            *(_show(line[f"eval/{key}"]) for key in ("kl", "ce", "teacher_ce", "perplexity", "top1_agreement")),
        )
        self._update(phase="training")

    def saved(self, step: int, path: Path) -> None:
        """Report one whole checkpoint."""
        log.info("saved %s", path)
        self._update(phase="training", checkpoint_step=step)

    def ended(self, phase: Phase, *, exit_code: int, reason: str = "", error: str = "", hint: str = "") -> None:
        """Report the end; `phase` is done, stopped or failed."""
        if phase == "failed" and self._has_failed_already():
            return
        words = "; ".join(part for part in (reason, error, hint) if part)
        (log.error if error else log.info)("%s%s", phase, f": {words}" if words else "")
        self._update(phase=phase, exit_code=exit_code, reason=reason, error=error, hint=hint)
        if self._metrics:
            self._metrics.close()
        if self._events:
            self._events.close()

    def _write(self, line: Mapping[str, Number]) -> None:
        if self._metrics is not None:
            self._metrics.write(line)
        if self._events is None:
            return
        for key, (tag, factor) in _TENSORBOARD_TAGS.items():
            value = line.get(key)
            if value is not None:
                self._events.add_scalar(tag, value * factor, int(line["step"] or 0))
        self._events.flush()

    def _has_failed_already(self) -> bool:
        """Whether another rank of this start has said why: what follows, such as a lost connection, is no cause."""
        said = read_status(self._folder.status)
        return said is not None and said.phase == "failed" and said.updated > self._status.started

    def _update(self, **changes: Any) -> None:
        self._status = self._status.model_copy(update={**changes, "updated": time.time()})
        # Another rank speaks up only when it fails: the first may be waiting for it and know nothing.
        if self._speaks or self._status.phase == "failed":
            write_status(self._folder.status, self._status)


def memory_gib(device: torch.device) -> float:
    """Peak memory of this rank: allocated on the GPU, or resident on a CPU; in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _start_log(path: Path, *, to_terminal: bool) -> None:
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8")]
    if to_terminal:
        handlers.append(logging.StreamHandler(sys.stdout))
    for handler in handlers:
        handler.setFormatter(formatter)
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.raiseExceptions = False  # on a full disk every line would print a traceback; the metrics say it once


def _write_environment(path: Path) -> None:
    shown = {name: value if _is_shown(name) else "(not shown)" for name, value in sorted(os.environ.items())}
    lines = [f"python {sys.version.split()[0]}", f"torch {torch.__version__}", f"host {platform.node()}"]
    path.write_text("\n".join(lines + [f"{name}={value}" for name, value in shown.items()]) + "\n", encoding="utf-8")


def _is_shown(name: str) -> bool:
    return (_SHOWN_NAMES.fullmatch(name) is not None or name in ENVIRONMENT_KEYS) and not _SECRET_WORDS.search(name)


def _show(value: Number) -> str:
    return "none" if value is None else f"{value:.4g}"
