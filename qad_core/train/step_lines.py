"""Metrics lines of steps that a device is still at: told one step late, in order, each once.

The host queues a step and only then reads the numbers of the one before, so that it never waits for a device that has
nothing queued. Owns how a step's numbers and times reach the host, and when; what a step does is `loop.py`'s, and what
a line tells the world `report.py`'s.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from qad_core.run.metrics import MetricsLine

STEPS_BEHIND = 1
"""Steps that may be queued and not yet told."""


class NumbersOnTheirWay:
    """Numbers of a device that are copied to the host once they are there; nothing waits before they are read."""

    def __init__(self, numbers: Tensor) -> None:
        """Queue the copy of `numbers`, 1-dim."""
        self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=numbers.is_cuda)
        self._numbers.copy_(numbers, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()

    def read(self) -> list[float]:
        """The numbers; waits until they have arrived."""
        self._arrived.synchronize()
        return self._numbers.tolist()


class DeviceClock:
    """Tells the Unix time of a device's events; to be made while the device has nothing queued."""

    def __init__(self) -> None:
        self._start = torch.cuda.Event(enable_timing=True)
        self._start.record()
        self._start.synchronize()
        self._unix_time = time.time()

    def unix_time(self, event: torch.cuda.Event) -> float:
        """When an event happened that has been waited for, in seconds."""
        return self._unix_time + self._start.elapsed_time(event) / 1000


@dataclass(frozen=True)
class QueuedStep:
    """One optimizer step as far as the host knows it."""

    known: MetricsLine
    """Its line, with None for what the device has to tell."""
    loss_keys: tuple[str, ...]
    tokens: int
    """Tokens of its global batch."""
    numbers: NumbersOnTheirWay | None
    """(gradient norm, 1 if no weight changed, *mean losses a token), or None for a step that only took its data."""
    began: torch.cuda.Event
    ended: torch.cuda.Event

    def line(self, clock: DeviceClock) -> MetricsLine:
        """The whole line; waits for the device to end the step."""
        self.ended.synchronize()
        line: MetricsLine = {**self.known, "time": clock.unix_time(self.ended)}
        if self.numbers is None:
            return line
        grad_norm, skipped, *losses = self.numbers.read()
        milliseconds = self.began.elapsed_time(self.ended)
        return {
            **line,
            **dict(zip(self.loss_keys, losses, strict=True)),
            "grad_norm": grad_norm,
            "skipped": int(skipped),
            "step_ms": milliseconds,
            "tokens_per_s": 1000 * self.tokens / milliseconds,
        }


class StepLines:
    """Steps in the order in which they were queued, told as `STEPS_BEHIND` says; leaving the context tells the rest."""

    def __init__(
        self, report: Callable[[MetricsLine], None], judge: Callable[[MetricsLine], None] = lambda _: None
    ) -> None:
        """`report` writes a line down; `judge` may end the run by it, unless another error has."""
        self._report, self._judge = report, judge
        self._queued: deque[QueuedStep] = deque()
        self._clock = DeviceClock()

    def add(self, step: QueuedStep) -> None:
        """Take in the step that was queued last, and tell those that are far enough behind it."""
        self._queued.append(step)
        while len(self._queued) > STEPS_BEHIND:
            self._tell_oldest()

    def flush(self) -> None:
        """Tell every step; the device has nothing queued afterwards."""
        while self._queued:
            self._tell_oldest()
        self._clock = DeviceClock()

    def _tell_oldest(self) -> None:
        self._judge(self._report_oldest())

    def _report_oldest(self) -> MetricsLine:
        line = self._queued.popleft().line(self._clock)
        self._report(line)
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
            return
        # A device or a disk that has failed takes the last lines with it: what failed first is the error to be seen.
        with contextlib.suppress(RuntimeError, OSError):
            while self._queued:
                self._report_oldest()
