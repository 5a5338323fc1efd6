"""The logs of a run: one of them at its end, followed, or anywhere in it; another by keys or from a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from qad_tui.log_words import title_of, why_without_lines
from qad_tui.panes.log_search import LogSearchPane
from qad_tui.run_follower import Followers
from qad_tui.widgets.log_search_line import LogSearchLine
from qad_tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from qad_core.run.jobs import Job
    from qad_tui.log_reader import LogChoice, LogReader, LogState

_KEPT_RUNS = 4
"""Runs whose log stays in memory, so that going back to one shows it at once."""


@dataclass
class LogRead(Message, bubble=False):
    """The log was read on."""

    path: Path
    state: LogState
    share: float | None = None
    """Share of the file to go to, 0 to 1."""


@dataclass
class LogsListed(Message, bubble=False):
    """The logs of the run were listed, to choose from."""

    path: Path
    state: LogState


def _make_reader(path: Path) -> LogReader:
    from qad_tui.log_reader import LogReader  # its patterns would cost the first frame 20 ms

    return LogReader(path)


class LogPane(LogSearchPane):
    """The log of the newest start's first rank, unless another one is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "list_logs", "Other logs", id="log.choose"),
        Binding("left_square_bracket", "step(-1)", "Previous log", id="log.previous", key_display="[", show=False),
        Binding("right_square_bracket", "step(1)", "Next log", id="log.following", key_display="]", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._followers = Followers(_make_reader, _KEPT_RUNS)

    def compose(self) -> ComposeResult:
        """The lines, and the line of the search."""
        yield LogView()
        yield LogSearchLine()

    @property
    def jobs(self) -> Sequence[Job]:
        """Starts of the run."""
        return self.row.view.jobs if self.row else ()

    def run_changed(self) -> None:
        """Show what was last seen of this run, where it was looked at before."""
        self.reader = self._followers.get(self.path) if self.path else None
        self.state = self.reader.last if self.reader else None
        self.forget_search()

    def read(self) -> None:
        """Read the log on."""
        if self.reader is not None:
            self._poll_in_thread(self.reader, self.jobs, self.view.following)

    def redraw(self) -> None:
        """Draw the lines."""
        view, state = self.view, self.state
        if state is None:
            view.show(None)
            view.border_title = " Log "
            return
        view.show(state.window, "" if state.window and state.window.lines else why_without_lines(state))
        self._draw_title()

    def choose(self, choice: LogChoice) -> None:
        """Show another log of the run."""
        reader, jobs = self.reader, self.jobs
        if reader is not None:
            self.forget_search()
            reader.choice = choice
            self._move_in_thread(reader, lambda: reader.open_chosen(jobs))

    def action_list_logs(self) -> None:
        """Choose among all logs of the run."""
        if self.reader is not None:
            self._list_in_thread(self.reader, self.jobs)

    def action_step(self, distance: int) -> None:
        """Go to the next log of the same start: of another rank, or what the job printed."""
        from qad_tui.log_reader import choice_of, neighbour

        if self.state is None or self.reader is None:
            return
        source = neighbour(self.state, distance)
        if source is None:
            self.search_line.say("This start has no other log; t shows those of other starts.")
        else:
            self.choose(choice_of(source, self.state.sources))

    @work(thread=True, group="log")
    def _poll_in_thread(self, reader: LogReader, jobs: Sequence[Job], following: bool) -> None:
        state = reader.poll(jobs, following=following)
        if state is not None:
            self.post_message(LogRead(reader.path, state))

    @work(thread=True, group="log")
    def _move_in_thread(self, reader: LogReader, step: Callable[[], LogState]) -> None:
        self.post_message(LogRead(reader.path, step()))

    @work(thread=True, group="log")
    def _go_in_thread(self, reader: LogReader, share: float) -> None:
        self.post_message(LogRead(reader.path, reader.go_to_share(share), share))

    @work(thread=True, group="log")
    def _list_in_thread(self, reader: LogReader, jobs: Sequence[Job]) -> None:
        self.post_message(LogsListed(reader.path, reader.list_again(jobs)))

    def _keep_state(self, state: LogState) -> None:
        self.state = state
        self.redraw()

    @on(LogRead)
    def _keep(self, message: LogRead) -> None:
        if message.path == self.path:
            self._keep_state(message.state)
            if message.share is not None and message.share < 1 and message.state.window is not None:
                self.view.go_to(round(message.share * message.state.window.size))

    @on(LogsListed)
    def _offer(self, message: LogsListed) -> None:
        from qad_tui.screens.log_choice import LogChoiceScreen

        if message.path == self.path:
            self._keep_state(message.state)
            screen = LogChoiceScreen(message.state.sources, message.state.source, now=self.qad.now())
            self.qad.push_screen(screen, self._choose_or_not)

    def _choose_or_not(self, choice: LogChoice | None) -> None:
        if choice is not None:
            self.choose(choice)

    @on(LogView.MoreWanted)
    def _read_more(self, message: LogView.MoreWanted) -> None:
        message.stop()
        reader = self.reader
        if reader is not None:
            self._move_in_thread(reader, reader.read_older if message.older else reader.read_newer)

    @on(LogView.PlaceWanted)
    def _go_to_place(self, message: LogView.PlaceWanted) -> None:
        message.stop()
        self._go_to(message.share)

    @on(LogSearchLine.PlaceWanted)
    def _go_to_share(self, message: LogSearchLine.PlaceWanted) -> None:
        message.stop()
        self.search_line.close()
        self.search_line.say("")
        self.view.focus()
        self._go_to(message.share)

    def _go_to(self, share: float) -> None:
        reader = self.reader
        if reader is not None:
            self.view.following = share == 1
            self._go_in_thread(reader, share)

    @on(LogView.Scrolled)
    def _draw_title(self) -> None:
        view = self.view
        if self.state is not None:
            view.border_title = f" Log · {title_of(self.state, view.top, following=view.following)} "

    def take_keys(self) -> None:
        """Have the keys go to the lines, or on to the line that is being typed."""
        if not isinstance(self.screen.focused, Input):
            self.screen.set_focus(self.view)
