"""The health rules over metrics.jsonl, each a small object that is told of every line.

Owns the thresholds and what each finding says. A rule keeps a bounded number of values, so that a line costs the
same however long the run is. What is found over all of them is `health.py`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Literal

from qad_core.run.history import ThinnedHistory
from qad_core.run.metrics import MetricsLine, Number
from qad_core.run.show import count_of

Severity = Literal["note", "warning", "problem"]
"""`note`: nothing to do; `warning`: look at it; `problem`: the run wastes its time as it is."""

RECENT_STEPS = 50
"""What happened within so many of the newest steps is happening now."""
SPREAD_OF_MAD = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""


@dataclass(frozen=True)
class Finding:
    """One thing that a rule has seen."""

    rule: str
    severity: Severity
    sentence: str
    """What is seen, with its numbers, and what it means."""
    step: int | None = None
    """The newest step that it is about."""


class NonFiniteRule:
    """Steps without a finite loss or gradient norm."""

    def __init__(self) -> None:
        self._count, self._first, self._last, self._newest = 0, 0, 0, 0

    def add(self, step: int, line: MetricsLine) -> None:
        """Take a training line."""
        self._newest = step
        if any(value is not None and not math.isfinite(value) for value in (loss_of(line), line.get("grad_norm"))):
            self._count += 1
            self._first, self._last = (self._first if self._count > 1 else step), step

    def finding(self) -> Finding | None:
        """NaN or infinite values, where there were any."""
        if not self._count:
            return None
        where = f"at step {self._last}" if self._count == 1 else f"between steps {self._first} and {self._last}"
        sentence = f"The loss or the gradient norm of {count_of(self._count, 'step')} was not finite, {where}"
        if _is_recent(self._last, self._newest):
            sentence += "; the run learns nothing from such a step, and several in a row mean that it has diverged."
            return Finding("non-finite", "problem", sentence, self._last)
        return Finding("non-finite", "warning", f"{sentence}; it has recovered since.", self._last)


class SkippedRule:
    """Steps that did not change the weights."""

    def __init__(self) -> None:
        self._count, self._last, self._newest = 0, 0, 0

    def add(self, step: int, line: MetricsLine) -> None:
        """Take a training line."""
        self._newest = step
        if line.get("skipped"):
            self._count, self._last = self._count + 1, step

    def finding(self) -> Finding | None:
        """Skipped steps, where there were any."""
        if not self._count:
            return None
        recent = _is_recent(self._last, self._newest)
        steps = f"{count_of(self._count, 'step')} {'was' if self._count == 1 else 'were'}"
        sentence = f"{steps} skipped, the last at step {self._last}: the weights were left as they were."
        return Finding("skipped", "warning" if recent else "note", sentence, self._last)


class SpikeRule:
    """Gradient norms far above those before them: single ones are harmless, many are not."""

    WINDOW = 100
    FEWEST = 20
    """Norms needed before one can be called unusual."""
    SPREADS = 6.0
    TIMES_MEDIAN = 2.0
    IN_A_ROW = 3
    SHARE = 0.1

    def __init__(self) -> None:
        self._window: deque[float] = deque()
        self._sorted: list[float] = []
        self._recent: deque[bool] = deque(maxlen=RECENT_STEPS)
        self._count, self._last, self._norm, self._usual = 0, 0, 0.0, 0.0

    def add(self, step: int, line: MetricsLine) -> None:
        """Take a training line."""
        norm = line.get("grad_norm")
        if norm is None or not math.isfinite(norm):
            return
        is_spike = self._is_spike(norm)
        self._recent.append(is_spike)
        if is_spike:
            self._usual = _middle(self._sorted)
            self._count, self._last, self._norm = self._count + 1, step, norm
        self._window.append(norm)
        insort(self._sorted, norm)
        if len(self._window) > self.WINDOW:
            del self._sorted[bisect_left(self._sorted, self._window.popleft())]

    def finding(self) -> Finding | None:
        """Spikes, persistent or isolated, where there were any."""
        if not self._count:
            return None
        newest = f"the newest at step {self._last}: {self._norm:.3g} against a median of {self._usual:.3g}"
        if self._longest_row() >= self.IN_A_ROW or sum(self._recent) > self.SHARE * RECENT_STEPS:
            sentence = (
                f"The gradient norm spikes persistently: in {sum(self._recent)} of the last {len(self._recent)} steps, "
                f"{newest}; the learning rate is probably too high."
            )
            return Finding("gradient-norm", "warning", sentence, self._last)
        spikes = count_of(self._count, "isolated gradient-norm spike")
        return Finding("gradient-norm", "note", f"{spikes}, {newest}; single ones do no harm.", self._last)

    def _is_spike(self, norm: float) -> bool:
        if len(self._sorted) < self.FEWEST:
            return False
        usual = _middle(self._sorted)
        if norm <= self.TIMES_MEDIAN * usual:  # so that the spread is wanted rarely
            return False
        return norm > usual + self.SPREADS * _spread(self._sorted, usual)

    def _longest_row(self) -> int:
        longest = row = 0
        for is_spike in self._recent:
            row = row + 1 if is_spike else 0
            longest = max(longest, row)
        return longest


class LossRule:
    """The smoothed loss above where it started."""

    SMOOTHED_STEPS = 20
    FEWEST = 60
    """Finite losses needed, so that beginning and end are apart."""
    MARGIN = 1.05

    def __init__(self) -> None:
        self._first: list[float] = []
        self._newest: deque[float] = deque(maxlen=self.SMOOTHED_STEPS)
        self._count, self._step, self._name = 0, 0, "KD loss"

    def add(self, step: int, line: MetricsLine) -> None:
        """Take a training line."""
        loss = loss_of(line)
        if loss is None or not math.isfinite(loss):
            return
        self._count, self._step = self._count + 1, step
        self._name = "loss" if line.get("loss/kd") is None else "KD loss"
        if len(self._first) < self.SMOOTHED_STEPS:
            self._first.append(loss)
        self._newest.append(loss)

    def finding(self) -> Finding | None:
        """A loss that is higher than it was, by more than its noise."""
        if self._count < self.FEWEST:
            return None
        start, now = median(self._first), median(self._newest)
        noise = math.hypot(_spread(self._first, start), _spread(self._newest, now)) / math.sqrt(self.SMOOTHED_STEPS)
        if now <= self.MARGIN * start or now <= start + 3 * noise:
            return None
        sentence = (
            f"The {self._name} is above its start: {now:.4g} over the last {self.SMOOTHED_STEPS} steps, {start:.4g} "
            f"over the first {self.SMOOTHED_STEPS}; the run makes the model worse."
        )
        return Finding("loss-above-start", "problem", sentence, self._step)


class SpeedRule:
    """The newest steps slower than the run's own median."""

    NEWEST = 20
    FEWEST = 60
    TIMES_MEDIAN = 1.5

    def __init__(self) -> None:
        self._all = ThinnedHistory(100)
        self._newest: deque[float] = deque(maxlen=self.NEWEST)
        self._count, self._step = 0, 0

    def add(self, step: int, line: MetricsLine) -> None:
        """Take a training line."""
        milliseconds = line.get("step_ms")
        if milliseconds is None or not math.isfinite(milliseconds) or milliseconds <= 0:
            return
        self._count, self._step = self._count + 1, step
        self._all.append(milliseconds)
        self._newest.append(milliseconds)

    def finding(self) -> Finding | None:
        """A run that has become slow."""
        if self._count < self.FEWEST:
            return None
        usual, now = median(self._all.means()), median(self._newest)
        if now <= self.TIMES_MEDIAN * usual:
            return None
        sentence = (
            f"The last {self.NEWEST} steps took {now:.0f} ms in the median, {now / usual:.1f} times the run's own "
            f"median of {usual:.0f} ms; a slow disk, a busy node or a throttled GPU does that."
        )
        return Finding("slow", "warning", sentence, self._step)


class EvaluationRule:
    """Held-out KL that rises from evaluation to evaluation."""

    IN_A_ROW = 2
    MARGIN = 1.01
    """A rise of less than 1 % in all is noise."""

    def __init__(self) -> None:
        self._newest: deque[tuple[int, float, Number]] = deque(maxlen=self.IN_A_ROW + 1)

    def add(self, step: int, line: MetricsLine) -> None:
        """Take an evaluation line."""
        kl = line.get("eval/kl")
        if kl is None or not math.isfinite(kl):
            return
        while self._newest and self._newest[-1][0] >= step:
            self._newest.pop()  # a resumed run repeats one
        self._newest.append((step, kl, line.get("eval/tokens")))

    def finding(self) -> Finding | None:
        """Two rises in a row, over the same number of tokens."""
        kls = [kl for _, kl, _ in self._newest]
        if len(kls) <= self.IN_A_ROW or len({tokens for _, _, tokens in self._newest}) > 1:
            return None
        if not all(before < after for before, after in pairwise(kls)):
            return None
        if kls[-1] <= self.MARGIN * kls[0]:
            return None
        steps = ", ".join(str(step) for step, _, _ in self._newest)
        values = ", ".join(f"{kl:.4g}" for kl in kls)
        sentence = (
            f"The held-out KL has risen {self.IN_A_ROW} times in a row: {values} at steps {steps}; more steps "
            "do not help as it is, an earlier checkpoint may be the better one."
        )
        return Finding("evaluation-rises", "warning", sentence, self._newest[-1][0])


def loss_of(line: MetricsLine) -> Number:
    """What the run minimizes: the KL to the teacher, or the cross-entropy of a QAT run."""
    distillation = line.get("loss/kd")
    return line.get("loss/ce") if distillation is None else distillation


def _is_recent(step: int, newest: int) -> bool:
    return newest - step < RECENT_STEPS


def _middle(ordered: list[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else fmean(ordered[half - 1 : half + 1])


def _spread(values: list[float] | deque[float], middle: float) -> float:
    """A robust standard deviation: from the median absolute deviation."""
    return SPREAD_OF_MAD * median(abs(value - middle) for value in values)
