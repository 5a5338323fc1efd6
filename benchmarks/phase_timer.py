"""Splits wall time into named phases that may lie inside one another; each moment belongs to the innermost.

Owns the clockwork. What is a phase is the caller's business.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class PhaseTimes:
    """What a timer collected."""

    seconds: dict[str, float]
    """Phase -> time in it and in none inside it."""
    calls: dict[str, int]
    """Phase -> how often it was entered."""

    @property
    def total(self) -> float:
        """Seconds of all phases."""
        return sum(self.seconds.values())


class PhaseTimer:
    """A stack of running phases; `wait` is called at each change, so that queued work counts where it was asked for."""

    def __init__(self, wait: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._wait, self._clock = wait, clock
        self._running: list[str] = []
        self._since = 0.0
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._calls: Counter[str] = Counter()

    def start(self, phase: str) -> None:
        """Enter a phase; the one around it pauses."""
        self._count_until_now()
        self._calls[phase] += 1
        self._running.append(phase)

    def stop(self) -> None:
        """Leave the innermost phase; the one around it goes on."""
        self._count_until_now()
        self._running.pop()

    def wrap(self, phase: str, function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
        """A function that does the same as a phase."""

        def timed(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
            self.start(phase)
            try:
                return function(*args, **kwargs)
            finally:
                self.stop()

        return timed

    def take(self) -> PhaseTimes:
        """What has been collected since the last call."""
        taken = PhaseTimes(dict(self._seconds), dict(self._calls))
        self._seconds.clear()
        self._calls.clear()
        return taken

    def _count_until_now(self) -> None:
        self._wait()
        now = self._clock()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now
