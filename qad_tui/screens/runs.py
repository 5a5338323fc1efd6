"""First screen: all runs on the left, the chosen one on the right where the terminal is wide enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Footer, Static

from qad_tui.messages import RunChosen, RunOpened, RunsPolled
from qad_tui.runs_model import RunsDifference
from qad_tui.screens.following import FollowingScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.widgets.curve_view import CurveView
from qad_tui.widgets.run_panel import RunPanel
from qad_tui.widgets.run_table import RunTable
from qad_tui.widgets.top_bar import TopBar, freshness_words

SPLIT_COLUMNS = 100
"""Terminals at least so wide show table and run side by side."""
_BREAKPOINTS = [(0, "-narrow"), (SPLIT_COLUMNS, "-split")]


class RunsScreen(FollowingScreen):
    """The list of runs and, from SPLIT_COLUMNS on, the run under the cursor."""

    HORIZONTAL_BREAKPOINTS = _BREAKPOINTS
    AUTO_FOCUS: ClassVar[str | None] = "RunTable"

    def __init__(self) -> None:
        super().__init__()
        self._polling = False
        self._last: RunsDifference | None = None

    def compose(self) -> ComposeResult:
        """Bar, table and panel, keys."""
        yield TopBar()
        yield Static("", id="problems")
        yield Static("", id="empty")
        with Horizontal(id="body"):
            yield RunTable()
            yield RunPanel()
        yield Footer(show_command_palette=False, compact=True)

    def tick(self) -> None:
        """Look at the run folders, then at the chosen run."""
        if self.is_current and not self.qad.paused:
            self.poll_runs()
        super().tick()

    def refresh_now(self) -> None:
        """Read everything once, even while paused."""
        self.poll_runs()
        super().refresh_now()

    def poll_runs(self) -> None:
        """Start one poll in a thread, unless one is still under way; it ends in a RunsPolled message."""
        if not self._polling:
            self._polling = True
            self._poll_in_thread()

    @work(thread=True, group="runs")
    def _poll_in_thread(self) -> None:
        self.post_message(RunsPolled(self.qad.runs.poll()))

    @on(RunsPolled)
    def _apply_difference(self, message: RunsPolled) -> None:
        self._polling = False
        self._last = message.difference
        self.query_one(RunTable).apply(message.difference)
        self._show_problems(message.difference.problems)
        self._show_emptiness()
        self.redraw()

    @on(RunChosen)
    def _follow_chosen(self, message: RunChosen) -> None:
        self.follow(message.path)

    @on(RunOpened)
    def _open_run(self, message: RunOpened) -> None:
        self.qad.push_screen(RunDetailScreen(message.path))

    def read_run(self, *, older_log: bool = False) -> None:
        """Read the chosen run only where it is on the screen."""
        if self.size.width >= SPLIT_COLUMNS:
            super().read_run(older_log=older_log)

    def chart_columns(self) -> int:
        """Cells of the chart beside the table."""
        return self.query_one(CurveView).columns

    def redraw(self) -> None:
        """Draw bar and panel; the table draws itself by difference."""
        now = self.qad.now()
        self.query_one(RunPanel).show(self.detail, now=now, log_scale=self.qad.log_scale)
        age = None if self._last is None else now - self._last.polled_at
        freshness = freshness_words(age, poll_seconds=self.qad.poll_seconds, paused=self.qad.paused)
        self.query_one(TopBar).show(self._title(), freshness)

    def _title(self) -> Text:
        table = self.query_one(RunTable)
        counts = (
            f"   {table.row_count} run{'s' if table.row_count != 1 else ''}, {table.running_count} running"
            if self._last
            else ""
        )
        return Text.assemble(("qad-tui", "bold"), counts)

    def _show_problems(self, problems: Sequence[str]) -> None:
        line = self.query_one("#problems", Static)
        line.update(Text("\n").join(Text(f"⚠ {problem}") for problem in problems))
        line.display = bool(problems)

    def _show_emptiness(self) -> None:
        empty = self.query_one(RunTable).row_count == 0
        self.query_one("#body").display = not empty
        self.query_one("#empty").display = empty
        if empty:
            self.query_one("#empty", Static).update(why_empty(self.qad.runs.roots))


def why_empty(roots: Sequence[Path]) -> Text:
    """Why there is no run on the screen, and what to type to get one."""
    places = ", ".join(str(root) for root in roots)
    text = Text.assemble(("No runs yet", "bold"), f" under {places}.\n\n")
    text.append(
        "A run is a folder with a config.yaml, status.json or metrics.jsonl; new ones appear here by themselves.\n\n"
    )
    commands = (
        ("qad_core demo", "a real model, quantized and won back: 10 minutes"),
        ("qad_core train tiny", "a tiny model: under a minute"),
        ("qad-tui FOLDER", "look elsewhere (or set QAD_CHECKPOINT_ROOT)"),
    )
    for command, purpose in commands:
        text.append(f"  {command:<22}", "bold cyan")
        text.append(f"{purpose}\n")
    return text
