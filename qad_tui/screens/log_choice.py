"""A list of all logs of a run over the screen, to choose one: of each rank in each start, and of each SLURM job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from qad_core.run.log_sources import LogSource
from qad_tui.formats import format_short_duration, shorten_middle
from qad_tui.log_reader import LogChoice, choice_of
from qad_tui.log_words import format_bytes

_WIDTHS = (5, 4, 9, 22, 8, 5)
"""Cells for start, link, job, writer, size, age; the file's name has what is left."""
_HEADINGS = ("start", "link", "job", "written by", "size", "age", "file")
_FROM_SIZE = 4
"""Columns from here on are numbers, and stand at the right."""
_BORDERS = 8
_NAME_WIDTH, _LEAST_NAME_WIDTH = 44, 16


class LogChoiceScreen(ModalScreen[LogChoice | None]):
    """Enter shows the log under the cursor; the callback gets None for Escape."""

    AUTO_FOCUS: ClassVar[str | None] = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,t", "dismiss", "Close", id="log_choice.close"),
        Binding("j", "move(1)", "Next log", id="log_choice.next", show=False),
        Binding("k", "move(-1)", "Previous log", id="log_choice.previous", show=False),
        Binding("g", "go(True)", "First log", id="log_choice.first", show=False),
        Binding("G", "go(False)", "Last log", id="log_choice.last", show=False),
    ]

    def __init__(self, sources: Sequence[LogSource], current: LogSource | None, *, now: float) -> None:
        """Offer `sources`, with the cursor on the current one; ages are as of Unix time `now`."""
        super().__init__()
        self.sources = tuple(sources)
        self._current = current
        self._now = now

    def compose(self) -> ComposeResult:
        """One box."""
        with Vertical(id="log-choice") as box:
            box.border_title = " Logs of this run "
            box.border_subtitle = " enter shows · escape closes "
            if self.sources:
                yield Static(self._row("", _HEADINGS, "bold"))
                yield OptionList(*(Option(self._row_of(source)) for source in self.sources))
            else:
                yield Static("This run has written no log yet, and no job of it is known.")

    def on_mount(self) -> None:
        """The cursor stands on the log that is shown."""
        paths = [source.path for source in self.sources]
        for options in self.query(OptionList):
            known = self._current is not None and self._current.path in paths
            options.highlighted = paths.index(self._current.path) if known and self._current else 0

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(choice_of(self.sources[event.option_index], self.sources))

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        for options in self.query(OptionList):
            if step > 0:
                options.action_cursor_down()
            else:
                options.action_cursor_up()

    def action_go(self, first: bool) -> None:
        """Go to the first log, or the last."""
        for options in self.query(OptionList):
            options.highlighted = 0 if first else len(self.sources) - 1

    def _row_of(self, source: LogSource) -> Text:
        is_current = self._current is not None and source.path == self._current.path
        there = source.size is not None
        cells = (
            str(source.start or "–"),
            str(source.link or "–"),
            source.job_id or "here",
            source.who,
            format_bytes(source.size) if source.size is not None else "none yet",
            format_short_duration(self._now - source.modified) if there else "",
            source.path.name,
        )
        return self._row("▶" if is_current else "", cells, "" if there else "dim")

    def _row(self, mark: str, cells: Sequence[str], style: str) -> Text:
        parts = [mark.ljust(1)]
        for number, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=False)):
            cut = cell[:width]
            parts.append(cut.rjust(width) if number >= _FROM_SIZE else cut.ljust(width))
        room = self.size.width * 96 // 100 - _BORDERS - sum(_WIDTHS) - len(_WIDTHS) - 1
        if room >= _LEAST_NAME_WIDTH:
            parts.append(shorten_middle(cells[-1], min(room, _NAME_WIDTH)))
        return Text(" ".join(parts), style, no_wrap=True)
