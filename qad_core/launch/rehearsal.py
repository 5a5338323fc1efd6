"""Acts on a rehearsal's config: writes its folder, runs its two starts as one process, and says how far they are.

Owns the folder, that process, and the stages told of it. What is rehearsed is decided in `config/rehearsal.py`; the
starts themselves are `python -m qad_core.train.rehearse`, and this reads their files as any other reader does.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qad_core.config.load import ResolvedConfig, dump_resolved
from qad_core.config.rehearsal import CHATS, STEPS, STOP_STEP, TEACHER_CONFIG, Rehearsal
from qad_core.config.schema import ArchitectureConfig
from qad_core.config.yaml_file import write_yaml
from qad_core.launch.processes import ProcessPlan, caught_signals, start_processes, wait_for
from qad_core.run.folder import RunFolder
from qad_core.run.health_rules import loss_of
from qad_core.run.metrics import MetricsLine, is_evaluation, read_metrics
from qad_core.run.status import Status, read_status

OUTPUT = "rehearsal.out"
"""In the folder: what the process of both starts prints."""
_CHATS = 60

_ORDER = ("begun", "forked", "data", "calibrating", "evaluating", "training", "saving", "stopped", "done")
"""Marks of one start, as it comes to them."""


@dataclass(frozen=True)
class Stage:
    """One part of a rehearsal that is over."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Mark:
    """When something began."""

    name: str
    """A phase of status.json; `begun`; or `forked`, where a start's ranks are there."""
    time: float
    """Unix time."""


def write_folder(rehearsal: Rehearsal, folder: Path) -> RunFolder:
    """Write the run folder to rehearse in, with the files that its config names."""
    config = rehearsal.config
    run = RunFolder(folder / "run")
    run.path.mkdir(parents=True)
    if rehearsal.teacher is not None:
        (folder / TEACHER_CONFIG).write_text(teacher_yaml(rehearsal.teacher), encoding="utf-8")
    if config.dataset.answer_loss_only:
        (folder / CHATS).write_text("".join(map(_chat, range(_CHATS))), encoding="utf-8")
    run.config.write_text(dump_resolved(ResolvedConfig(config, {})), encoding="utf-8")
    return run


def teacher_yaml(teacher: ArchitectureConfig) -> str:
    """The teacher's shape, whole but for the scaling of its rotary embedding, which is the student's."""
    named = teacher.model_dump(mode="json", exclude={"rope_scaling", "tie_word_embeddings"})
    named["untie_embeddings_and_output_weights"] = not teacher.tie_word_embeddings
    return write_yaml(named, lambda key: "", "The teacher's shape in a rehearsal.")


def run_rehearsal(run: RunFolder, tell: Callable[[Stage], None]) -> int:
    """Run both starts to the end, telling each stage when it is over; the exit code."""
    plan = ProcessPlan(
        (sys.executable, "-m", "qad_core.train.rehearse", str(run.path), str(STOP_STEP)),
        rehearsal_environment(os.environ),
        run.path / OUTPUT,
    )
    with caught_signals() as received:
        group = start_processes([plan])
        return wait_for(group, received, StageWatch(run, tell, group.processes[0].pid).look)


def rehearsal_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the process that the ranks are forked from: one thread each, no GPU, loopback."""
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    return {
        **environ,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **({} if loopback is None else {"GLOO_SOCKET_IFNAME": loopback}),
    }


def went_on(run: RunFolder, samples_a_step: int) -> str:
    """Why the resumed start did not go on as it should; empty when it did: every step once, each loss finite."""
    status, lines = read_status(run.status), _steps(read_metrics(run.metrics))
    if status is None or status.phase != "done" or status.checkpoint_step != STEPS:
        return f"the run says {'nothing' if status is None else status.phase}, not done with step {STEPS} saved"
    numbers = [(int(line["step"] or 0), int(line["consumed_samples"] or 0)) for line in lines]
    if numbers != [(step, step * samples_a_step) for step in range(1, STEPS + 1)]:
        return f"its metrics have the steps and samples {numbers}"
    if not all(math.isfinite(loss) for loss in losses(run)):
        return f"its losses are {losses(run)}"
    return ""


def losses(run: RunFolder) -> list[float]:
    """The trained loss of each step; NaN where it was none."""
    found = [loss_of(line) for line in _steps(read_metrics(run.metrics))]
    return [math.nan if value is None else float(value) for value in found]


@dataclass
class StageWatch:
    """Call `look` often; it tells each stage once, when it is over."""

    run: RunFolder
    tell: Callable[[Stage], None]
    launcher: int
    """Process that the ranks are forked from; what it says is no rank's word."""
    marks: list[Mark] = field(default_factory=lambda: [Mark("begun", time.time())])
    _told: set[str] = field(default_factory=set[str])

    def look(self) -> None:
        """See what is new."""
        starts = len(list(self.run.logs.glob("output_*_rank0.out")))
        if starts > sum(mark.name == "forked" for mark in self.marks):
            self.marks.append(Mark("forked", time.time()))
        self._note_phase(read_status(self.run.status))
        for stage in finished_stages(self.marks, read_metrics(self.run.metrics)):
            if stage.name not in self._told:
                self._told.add(stage.name)
                self.tell(stage)

    def _note_phase(self, status: Status | None) -> None:
        if status is not None and status.pid != self.launcher and status.phase != self.marks[-1].name:
            self.marks.append(Mark(status.phase, status.updated))


def finished_stages(marks: Sequence[Mark], lines: Sequence[MetricsLine]) -> list[Stage]:
    """What is over, in the order in which it was done; a phase too short to be seen has no time of its own."""
    forks = [index for index, mark in enumerate(marks) if mark.name == "forked"]
    split = forks[1] if len(forks) > 1 else len(marks)
    first, second = marks[:split], marks[split:]
    steps = {int(line["step"] or 0): line for line in _steps(lines)}
    took = {step: float(line.get("step_ms") or 0.0) / 1000 for step, line in steps.items()}
    stepped = _time_of(steps.get(STEPS)) if second else None
    resumed = None if stepped is None else stepped - sum(took[step] for step in range(STOP_STEP + 1, STEPS + 1))
    found: list[tuple[str, float | None, float | None]] = [
        ("imports and tokens", _moment(first, "begun"), _moment(first, "forked")),
        ("ranks meet", _moment(first, "forked"), _moment(first, "data")),
        ("build", _moment(first, "data"), _moment(first, "calibrating")),
        ("calibrate", _moment(first, "calibrating"), _moment(first, "evaluating")),
        ("evaluate", _moment(first, "evaluating"), _moment(first, "training")),
        *((f"step {step}", 0.0, took.get(step)) for step in range(1, STOP_STEP + 1)),
        ("save", _moment(first, "saving"), _moment(first, "stopped")),
        ("resume", second[0].time if second else None, resumed),
        *((f"step {step}", 0.0, took.get(step)) for step in range(STOP_STEP + 1, STEPS + 1)),
        ("evaluate and save again", stepped, _moment(second, "done")),
    ]
    return [Stage(name, max(0.0, end - begin)) for name, begin, end in found if begin is not None and end is not None]


def _moment(marks: Sequence[Mark], name: str) -> float | None:
    """When a phase of one start began, or the first one after it that was seen; None where none was yet."""
    order = _ORDER.index(name)
    return next((mark.time for mark in marks if mark.name in _ORDER[order:]), None)


def _time_of(line: MetricsLine | None) -> float | None:
    return None if line is None else float(line.get("time") or 0.0)


def _steps(lines: Sequence[MetricsLine]) -> list[MetricsLine]:
    return [line for line in lines if not is_evaluation(line)]


def _chat(number: int) -> str:
    """One made chat as a line of JSON, with an answer that is most of it."""
    answer = " ".join(f"The number {number} and {step} make {number + step}." for step in range(10))
    messages = [{"role": "user", "content": f"Count on from {number}."}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"
