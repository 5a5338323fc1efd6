"""Shows a run's progress in the foreground, from its files: a bar in a terminal, plain lines elsewhere.

Owns what is shown and how often. It reads status.json and metrics.jsonl as any other reader does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine
from qad_core.run.show import show_duration, show_number
from qad_core.run.status import ENDED
from qad_core.run.store import RunStore, RunSummary

LOOK_SECONDS = 0.5
PLAIN_SECONDS = 30.0
PLAIN_LINES = 20
"""Without a terminal a training line is printed every 30 s and at every twentieth of the steps."""
PHASE_WORDS: Mapping[str, str] = {
    "teacher": "building the teacher",
    "student": "building the student",
    "calibrating": "calibrating the quantizers",
    "data": "preparing the data",
    "loading": "loading the checkpoint",
}
"""Phases whose names say too little."""
UNSAID = ENDED | {"training", "saving"}
"""Phases that other lines tell of."""


class Watch:
    """Call `look` often; it shows what is new. A context manager: the bar is there inside it."""

    def __init__(self, folder: RunFolder, console: Console) -> None:
        self._path = folder.path
        self._console = console
        self._store = RunStore([])
        self._started = time.time()
        self._next_look = 0.0
        self._phase = ""
        self._evaluated = -1
        self._printed_step, self._printed_at = 0, 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, numbers="")

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._next_look = 0.0
        self.look()
        self._bar.stop()

    def look(self) -> None:
        """Show what has changed, at most twice a second."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        if not self._path.exists():
            return
        run = self._store.summarize(self._path)
        if run.status is None or run.status.updated < self._started:
            return
        self._show_phase(run.status.phase)
        self._show_evaluations(run)
        self._show_training(run)

    def _show_phase(self, phase: str) -> None:
        if phase != self._phase and not self._console.is_terminal and phase not in UNSAID:
            self._console.print(PHASE_WORDS.get(phase, phase), highlight=False)
        self._phase = phase

    def _show_evaluations(self, run: RunSummary) -> None:
        for line in run.evaluations:
            if (line.get("time") or 0) >= self._started and (step := int(line.get("step") or 0)) > self._evaluated:
                self._console.print(evaluation_words(line), highlight=False)
                self._evaluated = step

    def _show_training(self, run: RunSummary) -> None:
        if self._console.is_terminal:
            self._bar.update(
                self._task,
                description=PHASE_WORDS.get(self._phase, self._phase),
                completed=run.step,
                total=run.train_iterations or None,
                numbers=training_words(run),
            )
            self._bar.refresh()
        elif self._phase == "training" and self._is_due(run):
            self._printed_step, self._printed_at = run.step, time.monotonic()
            self._console.print(f"step {run.step} of {run.train_iterations}: {training_words(run)}", highlight=False)

    def _is_due(self, run: RunSummary) -> bool:
        advanced = run.step - self._printed_step
        return advanced >= max(1, run.train_iterations // PLAIN_LINES) or (
            advanced > 0 and time.monotonic() - self._printed_at > PLAIN_SECONDS
        )


def training_words(run: RunSummary) -> str:
    """Loss, speed and time left in one line."""
    parts: list[str] = []
    if run.loss is not None:
        parts.append(f"loss {show_number(run.loss)}")
    if run.tokens_per_s is not None:
        parts.append(f"{run.tokens_per_s:,.0f} tokens/s")
    if run.eta_seconds is not None:
        parts.append(f"{show_duration(run.eta_seconds)} left")
    return ", ".join(parts)


def evaluation_words(line: MetricsLine) -> str:
    """One evaluation in one line."""
    return (
        f"evaluation at step {int(line.get('step') or 0)}: KL {show_number(line.get('eval/kl'))}, "
        f"cross-entropy {show_number(line.get('eval/ce'))} (teacher {show_number(line.get('eval/teacher_ce'))}), "
        f"top-1 agreement {show_number(line.get('eval/top1_agreement'))}"
    )
