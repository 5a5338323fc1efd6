"""A made-up fleet of run folders in every state, for tests and for looking at the screens.

`python -m tests.tui.made_fleet FOLDER --grow` writes one and lets its running runs grow until interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qad_core.config.load import dump_resolved, load_experiment
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job
from qad_core.run.metrics import MetricsWriter, Number
from qad_core.run.status import Phase, Status, read_status, write_status

NO_PROCESS = 2**22 + 1
"""A process number above Linux's largest, so that no process has it."""
STEP_SECONDS = 0.4
TOKENS_PER_STEP = 512
EVALUATION_INTERVAL = 20


@dataclass
class FakeRun:
    """Writes one run folder, step by step, as the trainer would."""

    root: Path
    name: str
    train_iterations: int
    started: float
    pid: int = field(default_factory=os.getpid)
    first_kl: float = 0.42
    final_kl: float = 0.09
    loss_key: str = "loss/kd"
    step: int = 0

    def __post_init__(self) -> None:
        self.folder = RunFolder(self.root / self.name)
        self.folder.logs.mkdir(parents=True)
        self.folder.config.write_text("loss: qad\n", encoding="utf-8")
        self.log_path = self.folder.logs / "student_qad_20260101-120000.log"
        self.log_path.with_name("student_20260101-120000.env.log").write_text("PATH=/usr/bin\n", encoding="utf-8")
        self._random = random.Random(self.name)
        self._writer = MetricsWriter(self.folder.metrics)
        self.log(f"INFO  run {self.name}")
        self.log("INFO  teacher loaded, student quantized to NVFP4 (210 linears), calibrated on 16 sequences")

    @classmethod
    def again(cls, path: Path, train_iterations: int, *, pid: int) -> FakeRun:
        """The run in a folder that this class has made, to go on with by process `pid`."""
        run = object.__new__(cls)
        run.root, run.name, run.train_iterations, run.pid = path.parent, path.name, train_iterations, pid
        run.folder, run.loss_key, run.first_kl, run.final_kl = RunFolder(path), "loss/kd", 0.42, 0.09
        run.log_path = run.folder.logs / "student_qad_20260101-120000.log"
        status = read_status(run.folder.status)
        assert status is not None
        run.step, run.started = status.step, time.time() - status.step * STEP_SECONDS
        run._random, run._writer = random.Random(run.name), MetricsWriter(run.folder.metrics)
        return run

    @property
    def clock(self) -> float:
        """Unix time of the current step."""
        return self.started + self.step * STEP_SECONDS

    def log(self, line: str) -> None:
        """Append a line to the log."""
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def set_status(self, phase: Phase, **more: object) -> None:
        """Replace status.json."""
        fields: dict[str, object] = {
            "phase": phase,
            "step": self.step,
            "train_iterations": self.train_iterations,
            "checkpoint_step": self.step // 50 * 50 or None,
            "updated": self.clock,
            "started": self.started,
            "pid": self.pid,
            "host": socket.gethostname(),
        }
        write_status(self.folder.status, Status.model_validate({**fields, **more}))

    def train(self, steps: int) -> None:
        """Do so many steps, with an evaluation at step 0, each interval and the end."""
        if self.step == 0:
            self.evaluate()
        for _ in range(steps):
            self.step += 1
            self.write_step(self._loss())
            if self.step % EVALUATION_INTERVAL == 0 or self.step == self.train_iterations:
                self.evaluate()
        self.set_status("training")

    def write_step(self, loss: float) -> None:
        """One training line and its log line."""
        line: dict[str, Number] = {
            "step": self.step,
            "time": self.clock,
            "consumed_samples": self.step * 4,
            "consumed_tokens": self.step * TOKENS_PER_STEP,
            self.loss_key: loss + (2.1 if self.loss_key == "loss/ce" else 0),
            "learning_rate": 1e-6 * 0.5 * (1 + math.cos(math.pi * self.step / self.train_iterations)),
            "grad_norm": 0.4 + self._random.random(),
            "skipped": 0,
            "step_ms": 1000 * STEP_SECONDS * (0.95 + 0.1 * self._random.random()),
            "tokens_per_s": TOKENS_PER_STEP / STEP_SECONDS * (0.95 + 0.1 * self._random.random()),
            "memory_gib": 2.5,
        }
        self._writer.write(line)
        self.log(
            f"INFO  step {self.step}/{self.train_iterations}  loss {loss:.4f}  {line['tokens_per_s']:.0f} tokens/s"
        )

    def evaluate(self) -> None:
        """One evaluation line and its log line."""
        kl = self._expected_kl()
        line: dict[str, Number] = {
            "step": self.step,
            "time": self.clock,
            "eval/kl": kl,
            "eval/ce": 2.1 + kl,
            "eval/teacher_ce": 2.1,
            "eval/perplexity": math.exp(2.1 + kl),
            "eval/top1_agreement": 1 - kl / 2,
            "eval/tokens": 8192,
        }
        self._writer.write(line)
        self.log(f"INFO  evaluation at step {self.step}: KL {kl:.4f} on 8,192 held-out tokens")

    def settle(self, *, updated: float) -> None:
        """Give every file the same modification time."""
        for path in (*self.folder.path.rglob("*"), self.folder.path):
            os.utime(path, (updated, updated))

    def _expected_kl(self) -> float:
        decay = math.exp(-4 * self.step / self.train_iterations)
        return self.final_kl + (self.first_kl - self.final_kl) * decay

    def _loss(self) -> float:
        return self._expected_kl() * self._random.lognormvariate(0, 0.12)


def make_fleet(root: Path, *, now: float) -> dict[str, FakeRun]:
    """Runs in every state, as of Unix time `now`, by what they are; a folder of older scripts beside them."""
    runs = dict(_ours(root, now))
    foreign = root / "Nemotron-9B-nvfp4-old-scripts"
    for folder in ("checkpoints", "tensorboard"):
        (foreign / folder).mkdir(parents=True)
    return runs


def _ours(root: Path, now: float) -> Iterator[tuple[str, FakeRun]]:
    smol = "SmolLM2-135M-Instruct-Teacher-SmolLM2-135M-Instruct-Data-python-stdlib-lr1e-06"
    qwen = "Qwen3-30B-A3B-Thinking-2507-Teacher-Qwen3-235B-A22B-Data-mixed-v2-lr1e-06"
    yield "running", _training(FakeRun(root, smol, 600, now - 130), 320, now, age=2)
    yield "evaluating", _evaluating(FakeRun(root, f"{qwen}-long", 4000, now - 900, first_kl=0.11, final_kl=0.02), now)
    done = FakeRun(root, f"{smol}-qat", 60, now - 8000, pid=NO_PROCESS, final_kl=0.3, loss_key="loss/ce")
    done.train(60)
    yield "done", _ended(done, "done", now - 7900, exit_code=0)
    stopped = FakeRun(root, f"{qwen}-tp4", 4000, now - 90_000, pid=NO_PROCESS)
    stopped.train(1200)
    yield "stopped", _ended(stopped, "stopped", now - 80_000, reason="SIGTERM", exit_code=3)
    yield "failed", _failed(FakeRun(root, f"{qwen}-lr-high", 4000, now - 4000, pid=NO_PROCESS), now)
    killed = FakeRun(root, f"{smol}-killed", 600, now - 300_000, pid=NO_PROCESS)
    killed.train(87)
    killed.settle(updated=now - 299_000)
    yield "killed", killed
    fresh = FakeRun(root, "tiny-Teacher-tiny-Data-made-lr1e-03", 40, now - 5)
    fresh.settle(updated=now - 5)
    yield "fresh", fresh


def _training(run: FakeRun, steps: int, now: float, *, age: float) -> FakeRun:
    run.train(steps)
    run.set_status("training", updated=now - age)
    run.settle(updated=now - age)
    return run


def _evaluating(run: FakeRun, now: float) -> FakeRun:
    run.train(2100)
    run.set_status("evaluating", updated=now - 45, host="node07")
    run.settle(updated=now - 45)
    return run


def _ended(run: FakeRun, phase: Phase, ended: float, **more: object) -> FakeRun:
    run.log(f"INFO  {phase}")
    run.set_status(phase, updated=ended, **more)
    run.settle(updated=ended)
    return run


def _failed(run: FakeRun, now: float) -> FakeRun:
    run.train(140)
    for _ in range(3):
        run.step += 1
        run.write_step(math.nan)
        run.log(f"WARNING  the loss of step {run.step} is nan")
    error = "The loss was not finite at steps 141, 142 and 143."
    hint = "Lower train.learning_rate (now 0.001); the checkpoint of step 100 is from before."
    run.log(f"ERROR  DivergedError: {error}")
    return _ended(run, "failed", now - 3900, error=error, hint=hint, exit_code=1)


def write_config(run: FakeRun, *overrides: str) -> None:
    """Give a run the resolved config of the experiment `tiny` with these overrides."""
    run.folder.config.write_text(dump_resolved(load_experiment("tiny", overrides, {})), encoding="utf-8")


def fail_for_memory(run: FakeRun) -> None:
    """Let the newest start of a run, which gets a config, end with a GPU out of memory."""
    write_config(run, "train.micro_batch_size=4", "cluster.kind=local")
    ended = time.time()
    run.log(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of "
        "79.11 GiB of which 1.20 GiB is free."
    )
    append_job(run.folder.jobs, Job(id="local-1", started=run.started, ended=ended, exit_code=1, host="node01", pid=1))
    run.set_status("failed", updated=ended, error="CUDA out of memory.", exit_code=1)


def spoil_metrics(run: FakeRun) -> None:
    """Append a line to metrics.jsonl that is not JSON, then a good one."""
    with run.folder.metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 12, "loss/k\x00\x00\n' + json.dumps({"step": run.step + 1, "loss/kd": 0.1}) + "\n")


def main() -> None:
    """Write a fleet, and let it grow when asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--grow", action="store_true")
    arguments = parser.parse_args()
    runs = make_fleet(arguments.root, now=time.time())
    while arguments.grow:
        time.sleep(STEP_SECONDS)
        for run in (runs["running"], runs["evaluating"]):
            if run.step < run.train_iterations:
                run.train(1)
                run.set_status("training", updated=time.time())


if __name__ == "__main__":
    main()
