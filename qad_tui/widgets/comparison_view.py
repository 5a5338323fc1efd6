"""Results and config differences of several runs, a column a run, numbered as on the chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.widgets import Static

from qad_core.run.comparison import Differences, result_rows
from qad_core.run.store import RunSummary
from qad_tui.formats import shorten_middle
from qad_tui.overlay import SIGNS, distinct_names
from qad_tui.widgets.chart import PALETTES

_LABEL_COLUMNS = 15


class ComparisonView(Static):
    """Redrawn only when what it shows or its width changed."""

    def __init__(self) -> None:
        super().__init__("")
        self._shown: tuple[object, ...] = ()

    def show(
        self, runs: Sequence[RunSummary], differences: Differences | None, *, gone: frozenset[Path], dark: bool
    ) -> None:
        """Show runs as they are now, `gone` as they were seen last; None while their configs are being read."""
        width = self.content_size.width
        wanted = (tuple(runs), differences, gone, dark, width)
        if wanted != self._shown:
            self._shown = wanted
            self.update(describe_comparison(runs, differences, gone=gone, dark=dark, width=width))


def describe_comparison(
    runs: Sequence[RunSummary],
    differences: Differences | None,
    *,
    gone: frozenset[Path] = frozenset(),
    dark: bool,
    width: int,
) -> Group:
    """Names, results, and the keys in which the configs differ."""
    room = max(8, (max(width, 40) - _LABEL_COLUMNS) // max(len(runs), 1) - 2)
    styles = [PALETTES[dark][number] for number in range(len(runs))]
    results = _table(styles)
    names = distinct_names([run.name for run in runs])
    results.add_row("", *(Text(shorten_middle(name, room), "bold") for name in names))
    for label, words in result_rows(runs):
        if label == "state":
            words = ["gone" if run.path in gone else word for run, word in zip(runs, words, strict=True)]
        results.add_row(Text(label.partition(",")[0], "dim"), *(word.replace("->", "→") for word in words))
    return Group(results, Text(), *_differences(runs, differences, styles, room))


def _differences(
    runs: Sequence[RunSummary], differences: Differences | None, styles: Sequence[str], room: int
) -> list[Table | Text]:
    if differences is None:
        return [Text("reading their configs …", "dim")]
    signs = {run.name: sign for run, sign in zip(runs, SIGNS, strict=False)}
    parts: list[Table | Text] = [
        Text(f"⚠ {signs[name]}: its config is not compared: {why}", "bold yellow")
        for name, why in differences.unknown.items()
    ]
    if not differences.values:
        return [*parts, Text("Their configs are the same.")] if len(runs) - len(differences.unknown) > 1 else parts
    table = _table(styles)
    for key, values in differences.values.items():
        table.add_row(Text(key, "dim"), *(Text(shorten_middle(_words(value), room)) for value in values))
    return [*parts, Text("Their configs differ in", "bold"), table]


def _words(value: object) -> str:
    return "–" if value is None else str(value)


def _table(styles: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column("", min_width=_LABEL_COLUMNS)
    for sign, style in zip(SIGNS, styles, strict=False):
        table.add_column(Text(f"{sign}━", f"bold {style}"))
    return table
