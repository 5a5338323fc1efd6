"""Series of a run's metrics, grown line by line.

Owns the numbers of metrics.jsonl lines and event files, and what the metrics are called. It reads no file and draws
nothing; `curve_lines` makes of them what a chart of a given width needs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import lt

from qad_core.run.metrics import MetricsLine, Number

TIME, TOKENS = "time", "consumed_tokens"
HIDDEN_KEYS = frozenset({"step", TIME, TOKENS, "consumed_samples", "eval/tokens"})
"""No metrics: axes, and counts that say nothing as curves."""


@dataclass(frozen=True)
class Loss:
    """What a run minimizes, and its held-out twin: their metric keys and their names."""

    key: str
    evaluation_key: str
    name: str
    evaluation_name: str


KD_LOSS = Loss("loss/kd", "eval/kl", "KD loss", "held-out KL")
CE_LOSS = Loss("loss/ce", "eval/ce", "CE loss", "held-out CE")
"""Cross-entropy, of runs with `loss: qat`; they write no loss/kd."""

NAMES = {
    KD_LOSS.key: KD_LOSS.name,
    CE_LOSS.key: CE_LOSS.name,
    "eval/kl": "held-out KL",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
    "tokens_per_s": "tokens/s",
    "step_ms": "step ms",
    "memory_gib": "memory GiB",
    "eval/ce": "held-out CE",
    "eval/teacher_ce": "teacher's held-out CE",
    "eval/perplexity": "held-out perplexity",
    "eval/top1_agreement": "top-1 agreement",
    "skipped": "skipped steps",
}
"""What the usual metrics are called, in the order in which they are shown; others come after them by their keys."""


def loss_of_line(line: MetricsLine) -> Loss:
    """The loss that a training line is about."""
    return CE_LOSS if line.get(KD_LOSS.key) is None and line.get(CE_LOSS.key) is not None else KD_LOSS


def name_of_metric(key: str) -> str:
    """What a metric is called on the screen."""
    return NAMES.get(key) or "".join(character if character.isprintable() else "?" for character in key)


@dataclass
class Series:
    """Every value of one metric key; steps rise strictly."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.steps)

    def append(self, step: float, value: float) -> None:
        """Add a value; a step that was there before replaces it and all after it (a resumed run repeats steps)."""
        if self.steps and step <= self.steps[-1]:
            self.drop_from(step)
        self.steps.append(step)
        self.values.append(value)

    def extend(self, steps: Sequence[float], values: Sequence[float]) -> None:
        """Add values as `append` does, at once where their steps rise."""
        is_new = not self.steps or not steps or steps[0] > self.steps[-1]
        if is_new and all(map(lt, steps, steps[1:])):
            self.steps.extend(steps)
            self.values.extend(values)
            return
        for step, value in zip(steps, values, strict=True):
            self.append(step, value)

    def drop_from(self, step: float) -> None:
        """Forget this step and all after it."""
        keep = bisect_left(self.steps, step)
        del self.steps[keep:], self.values[keep:]


class CurveData:
    """The series of one run."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self.version = 0
        """Rises with every change."""

    def extend(self, lines: Iterable[MetricsLine]) -> None:
        """Add the values of metrics.jsonl lines; nulls are left out, lines without a step too."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for line in lines:
            step: Number = line.get("step")
            if step is None:
                continue
            for key, value in line.items():
                if value is not None:
                    steps, values = found.get(key) or found.setdefault(key, ([], []))
                    steps.append(step)
                    values.append(value)
        found.pop("step", None)
        for key, (steps, values) in found.items():
            self._series.setdefault(key, Series()).extend(steps, values)
        self.version += bool(found)

    def drop_from(self, step: float) -> None:
        """Forget this step and all after it, of all metrics: a later start has gone on from before it."""
        for series in self._series.values():
            series.drop_from(step)
        self.version += 1

    def clear(self) -> None:
        """Forget everything, for a file that is read anew."""
        self._series.clear()
        self.version += 1

    def series(self, key: str) -> Series:
        """All values of a key; empty when the key never came."""
        return self._series.get(key, Series())

    def keys(self) -> list[str]:
        """Metrics with values, in the order in which they are shown; a count that is always 0 is left out."""
        known = [key for key, series in self._series.items() if series and key not in HIDDEN_KEYS]
        shown = [key for key in known if key != "skipped" or any(self._series[key].values)]
        places = {key: place for place, key in enumerate(NAMES)}
        return sorted(shown, key=lambda key: (places.get(key, len(places)), key))

    def loss(self) -> Loss:
        """The loss that this run is about; of a run with tags that nobody knows, the first that is called a loss."""
        if self.series(KD_LOSS.key) or (self.series(KD_LOSS.evaluation_key) and not self.series(CE_LOSS.key)):
            return KD_LOSS
        if self.series(CE_LOSS.key):
            return CE_LOSS
        named = [key for key in self.keys() if "loss" in key.lower()]
        return Loss(named[0], "", name_of_metric(named[0]), "") if named else KD_LOSS

    def evaluation_of(self, key: str) -> str:
        """Key of the evaluations that are marked on a metric's line; empty when there are none."""
        if key.startswith("eval/"):
            return key
        twins = {loss.key: loss.evaluation_key for loss in (KD_LOSS, CE_LOSS)}
        return twins.get(key, "")
