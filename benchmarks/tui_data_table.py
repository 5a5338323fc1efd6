"""The usual way to show a fleet: Textual's DataTable, cleared and filled again each second.

`python -m benchmarks.tui_data_table ROWS LIVE` shows so many made-up rows, of which the live ones change. It reads no
files and asks no SLURM, so that what it costs is the table alone.
"""

from __future__ import annotations

import argparse
import random
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer

CURSOR_MARK = b"48;2;18;52;86"
"""How the cursor's background is printed."""
READY = b"Quit"
_COLUMNS = ("State", "Run", "Stage", "Step", "%", "Loss", "Trend", "Tokens/s", "ETA", "Link")


class FleetTable(App[None]):
    """A table and the bar of keys."""

    CSS = "DataTable > .datatable--cursor { background: #123456; color: white; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move(1)", "Down"),
        Binding("k", "move(-1)", "Up"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, rows: int, live: int) -> None:
        super().__init__()
        self._rows, self._live, self._step = rows, live, 500

    def compose(self) -> ComposeResult:
        """The table over the keys."""
        yield DataTable[str](cursor_type="row")
        yield Footer()

    def on_mount(self) -> None:
        """Fill, now and each second."""
        self.query_one(DataTable).add_columns(*_COLUMNS)
        self._fill()
        self.set_interval(1, self._fill)

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        table = self.query_one(DataTable)
        table.move_cursor(row=table.cursor_row + step)

    def _fill(self) -> None:
        table = self.query_one(DataTable)
        row = table.cursor_row
        table.clear()
        for number in range(self._rows):
            live = number < self._live
            table.add_row(*self._cells(number, live=live))
        table.move_cursor(row=row)
        self._step += 1

    def _cells(self, number: int, *, live: bool) -> tuple[str, ...]:
        step = self._step if live else 500
        loss = 0.2 + random.random() / 10 if live else 0.25
        return (
            "training" if live else "done", f"student-Teacher-teacher-Data-mixed-lr1e-06-{number:03}", "steady",
            f"{step}/100000", f"{step / 1000:.1f}", f"{loss:.4f}", "▁▂▃▄▅▆▇█", "1280", "11 h", "1/3",
        )  # fmt: skip


def main() -> None:
    """Show the table until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int)
    parser.add_argument("live", type=int)
    arguments = parser.parse_args()
    FleetTable(arguments.rows, arguments.live).run()


if __name__ == "__main__":
    main()
