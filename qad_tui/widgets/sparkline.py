"""A series of numbers as one line of block characters; text only, so that it fits into any cell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import fmean

_BLOCKS = "▁▂▃▄▅▆▇█"


@lru_cache(maxsize=1024)
def sparkline(values: tuple[float, ...], width: int) -> str:
    """The series in at most `width` cells, least value lowest; spans of many values as their means.

    A series whose values are all the same is drawn at the lowest block; an empty one is an empty text.
    """
    cells = _resampled(values, width)
    if not cells:
        return ""
    least, greatest = min(cells), max(cells)
    span = greatest - least
    if span <= 0:
        return _BLOCKS[0] * len(cells)
    return "".join(_BLOCKS[min(7, int(8 * (value - least) / span))] for value in cells)


def _resampled(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [round(cell * len(values) / width) for cell in range(width + 1)]
    return [fmean(values[start:end]) for start, end in pairwise(edges)]
