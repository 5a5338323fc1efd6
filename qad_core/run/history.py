"""A long series kept in few numbers: means of equal spans, which grow as the series does.

Owns the thinning. It costs the same for each value, however many came before.
"""

from __future__ import annotations

import math


class ThinnedHistory:
    """Between `spans` and twice as many means of the finite values so far, in their order."""

    def __init__(self, spans: int) -> None:
        self._spans = spans
        self._means: list[float] = []
        self._values_a_span = 1
        self._sum, self._count = 0.0, 0

    def append(self, value: float) -> None:
        """Add a value; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        self._sum += value
        self._count += 1
        if self._count < self._values_a_span:
            return
        self._means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._means) == 2 * self._spans:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means = [first / 2 + second / 2 for first, second in pairs]
            self._values_a_span *= 2

    def clear(self) -> None:
        """Forget everything."""
        self._means.clear()
        self._values_a_span, self._sum, self._count = 1, 0.0, 0

    def means(self) -> tuple[float, ...]:
        """The means, oldest first; the last may be of fewer values than the others."""
        unfinished = (self._sum / self._count,) if self._count else ()
        return (*self._means, *unfinished)
