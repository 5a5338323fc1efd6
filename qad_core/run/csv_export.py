"""Metrics of runs as CSV: a line a step or an evaluation, a column a key, for spreadsheets and notebooks."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from qad_core.run.metrics import EVALUATION_KEYS, TRAINING_KEYS, MetricsLine


def write_csv(path: Path, runs: Sequence[tuple[str, Sequence[MetricsLine]]]) -> int:
    """Write the lines of (name, lines) runs and return how many; an absent value is an empty cell, NaN is `nan`.

    Columns are `run`, then the usual keys in their usual order, then what else came. Raises OSError.
    """
    keys = _columns(line for _, lines in runs for line in lines)
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", *keys])
        for name, lines in runs:
            for line in lines:
                writer.writerow([name, *("" if line.get(key) is None else line[key] for key in keys)])
                count += 1
    return count


def _columns(lines: Iterable[MetricsLine]) -> list[str]:
    found = {key for line in lines for key in line}
    usual = list(dict.fromkeys((*TRAINING_KEYS, *EVALUATION_KEYS)))
    return [key for key in usual if key in found] + sorted(found.difference(usual))
