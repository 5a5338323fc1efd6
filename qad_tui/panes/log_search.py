"""Searching the open log of a run: for what a person typed, or for lines that speak of an error.

Owns the search under way, in a thread that can be stopped, and what is said about it. The log pane is this one
with its reading and choosing (`log.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.worker import Worker, get_current_worker  # pyright: ignore[reportUnknownVariableType]

from qad_tui.log_words import where_in_file
from qad_tui.panes.base import RunPane
from qad_tui.widgets.log_search_line import LogSearchLine
from qad_tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from qad_core.run.log_search import Found, LogPattern, Matcher
    from qad_tui.log_reader import LogReader, LogState

_PROGRESS_SECONDS = 0.1


@dataclass(frozen=True)
class Hunt:
    """One search: for what, from where, which way."""

    matcher: Matcher
    what: str
    """As words: `"loss"` or `an error`."""
    start: int
    """Offset of a line's beginning."""
    forward: bool
    note: str = ""


@dataclass
class SearchGoesOn(Message, bubble=False):
    """So much of the file has been searched."""

    hunt: Hunt
    share: float


@dataclass
class SearchEnded(Message, bubble=False):
    """A line was found, or none; `found` is words when the file cannot be read."""

    path: Path
    hunt: Hunt
    found: Found | str
    state: LogState | None


class LogSearchPane(RunPane):
    """Has a LogView and a LogSearchLine; the log pane sets `reader`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop or close the search", id="log.stop", show=False),
        Binding("slash", "open_search", "Search", id="log.search"),
        Binding("n", "search_on(False)", "Next match", id="log.next", show=False),
        Binding("N", "search_on(True)", "Next match, the other way", id="log.next_back", show=False),
        Binding("e", "find_error(True)", "First error", id="log.first_error"),
        Binding("E", "find_error(False)", "Next error", id="log.next_error"),
        Binding("percent_sign", "open_place", "Go to a percentage", id="log.percent", key_display="%", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.reader: LogReader | None = None
        """Reader of the run's logs."""
        self.state: LogState | None = None
        """What was read last."""
        self.hunt: Hunt | None = None
        """The search under way."""
        self._worker: Worker[None] | None = None
        self._pattern: LogPattern | None = None
        self._forward = False

    @property
    def view(self) -> LogView:
        """The lines."""
        return self.query_one(LogView)

    @property
    def search_line(self) -> LogSearchLine:
        """The line below them."""
        return self.query_one(LogSearchLine)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape goes further up when there is nothing to stop, to close or to forget."""
        if action == "stop":
            is_seen = any(line.display for line in self.query(LogSearchLine))
            return is_seen or self.hunt is not None or self._pattern is not None
        return super().check_action(action, parameters)

    def forget_search(self) -> None:
        """Stop, and show no matches."""
        self._stop()
        self._show_pattern("")
        self.search_line.close()
        self.search_line.say("")

    def action_stop(self) -> None:
        """Stop the search under way, else close its line, else forget the matches."""
        if self.hunt is not None:
            self._stop()
            self.search_line.say("search stopped")
        else:
            self.forget_search()
        self.view.focus()

    def action_open_search(self) -> None:
        """Type what to look for."""
        self.search_line.open()

    def action_open_place(self) -> None:
        """Type a percentage."""
        self.search_line.open(place=True)

    def action_search_on(self, other_way: bool) -> None:
        """The next match in the direction of the search, or the other one."""
        if self._pattern is None:
            self.search_line.open()
            return
        self._search(self._pattern, forward=self._forward != other_way)

    def action_find_error(self, first: bool) -> None:
        """The first line of the file that speaks of an error, or the next one below the marked line."""
        from qad_core.run.log_signs import ErrorLines

        start = 0 if first else self._behind(self.view.marked)
        self._begin(Hunt(ErrorLines(), "first error" if first else "error", start, forward=True))

    @on(LogSearchLine.Typed)
    def _show_typed(self, message: LogSearchLine.Typed) -> None:
        self._show_pattern(message.words)

    @on(LogSearchLine.SearchWanted)
    def _search_typed(self, message: LogSearchLine.SearchWanted) -> None:
        self._show_pattern(message.words)
        self.search_line.close()
        self.view.focus()
        if self._pattern is None:
            self.search_line.say("")
            return
        self._forward = not self.view.following if message.forward is None else message.forward
        self._search(self._pattern, forward=self._forward, fresh=True)

    def _show_pattern(self, words: str) -> None:
        from qad_core.run.log_search import LogPattern

        self._pattern = LogPattern(words) if words else None
        self.view.highlight(self._pattern.spans if self._pattern else None)

    def _search(self, pattern: LogPattern, *, forward: bool, fresh: bool = False) -> None:
        """From the marked line on; a fresh search may find what is on the screen already."""
        view = self.view
        top, bottom = view.top, view.bottom
        if not fresh and view.marked is not None:
            start = self._behind(view.marked) if forward else view.marked
        elif forward:
            start = top.offset if top else 0
        else:
            start = self._behind(bottom.offset if bottom else None)
        self._begin(Hunt(pattern, f'"{pattern.words}"', start, forward, pattern.note))

    def _behind(self, offset: int | None) -> int:
        """Offset of the line after the one at an offset."""
        lines, size = self.view.lines, self.view.window.size if self.view.window else 0
        if offset is None:
            return self.view.top.offset if self.view.top else 0
        return next((line.offset for line in lines if line.offset > offset), size)

    def _begin(self, hunt: Hunt) -> None:
        reader = self.reader
        if reader is not None:
            self._stop()
            self.hunt = hunt
            self._worker = self._hunt_in_thread(reader, hunt)

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
        self.hunt, self._worker = None, None

    @work(thread=True, group="log-search")
    def _hunt_in_thread(self, reader: LogReader, hunt: Hunt) -> None:
        worker: Worker[None] = get_current_worker()  # pyright: ignore[reportUnknownVariableType]
        told = time.monotonic()

        def watch(share: float) -> bool:
            nonlocal told
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                self.post_message(SearchGoesOn(hunt, share))
            return not worker.is_cancelled

        found = reader.search(hunt.matcher, hunt.start, forward=hunt.forward, watch=watch)
        offset = None if isinstance(found, str) else found.offset
        state = reader.go_to(offset) if offset is not None and not worker.is_cancelled else None
        self.post_message(SearchEnded(reader.path, hunt, found, state))

    @on(SearchGoesOn)
    def _say_progress(self, message: SearchGoesOn) -> None:
        if message.hunt is self.hunt:
            way = "" if message.hunt.forward else " upwards"
            self.search_line.say(f"looks for {message.hunt.what}{way}: {100 * message.share:.0f} % · escape stops")

    @on(SearchEnded)
    def _show_found(self, message: SearchEnded) -> None:
        hunt = message.hunt
        if hunt is not self.hunt or message.path != self.path:
            return
        self.hunt = self._worker = None
        found = message.found
        if isinstance(found, str):
            self.search_line.say(f"the file cannot be searched: {found}")
        elif found.offset is None or message.state is None or message.state.window is None:
            self.search_line.say(f"{hunt.what[0].upper()}{hunt.what[1:]}: no line of this file")
        else:
            self.state = message.state
            self.redraw()
            self.view.reveal(found.offset)
            self.search_line.say(self._words_of(hunt, found))

    def _words_of(self, hunt: Hunt, found: Found) -> str:
        window = self.view.window
        line = next((line for line in self.view.lines if line.offset == found.offset), None)
        where = where_in_file(window, line) if window else ""
        wrapped = (" · beyond the end" if hunt.forward else " · beyond the beginning") if found.wrapped else ""
        keys = "n next · N other way" if hunt.what.startswith('"') else "E next error"
        note = f" · {hunt.note}" if hunt.note else ""
        arrow = "↓" if hunt.forward else "↑"
        return f"{arrow} {hunt.what}: {where}{wrapped}{note} · {keys}"
