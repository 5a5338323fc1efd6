"""The application: settings, keys that work everywhere, and the command `qad-tui`.

It wires screens to `RunsModel` and `RunFollowers` and shows nothing itself.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from qad_core import __version__
from qad_tui.run_follower import RunFollowers
from qad_tui.runs_model import RunsModel
from qad_tui.screens.following import FollowingScreen
from qad_tui.screens.help import HelpScreen, described_keys
from qad_tui.screens.log import LogScreen
from qad_tui.screens.runs import RunsScreen

POLL_SECONDS = 1.0


class QadApp(App[None]):
    """Experiment manager for QAD runs."""

    TITLE = "qad-tui"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "open_log", "Log", id="app.log"),
        Binding("y", "toggle_log_scale", "Log scale", id="app.log_scale"),
        Binding("p", "toggle_pause", "Pause", id="app.pause"),
        Binding("r", "refresh_now", "Refresh", id="app.refresh"),
        Binding("question_mark", "open_help", "Keys", id="app.help"),
        Binding("q", "quit", "Quit", id="app.quit"),
    ]

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        now: Callable[[], float] = time.time,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Show the runs below `roots`; `now` is the clock that ages are measured by, in Unix seconds."""
        super().__init__()
        self.now = now
        self.poll_seconds = poll_seconds
        self.runs = RunsModel(roots, clock=now)
        self.followers = RunFollowers()
        self.paused = False
        self.log_scale = False

    def get_default_screen(self) -> RunsScreen:
        """The list of runs."""
        return RunsScreen()

    def action_open_log(self) -> None:
        """Open the log of the run on the screen."""
        if isinstance(self.screen, FollowingScreen) and self.screen.followed is not None:
            self.push_screen(LogScreen(self.screen.followed))

    def action_toggle_log_scale(self) -> None:
        """Switch every chart between linear and logarithmic values."""
        self.log_scale = not self.log_scale
        if isinstance(self.screen, FollowingScreen):
            self.screen.redraw()

    def action_toggle_pause(self) -> None:
        """Stop reading files, or go on."""
        self.paused = not self.paused
        if isinstance(self.screen, FollowingScreen):
            self.screen.tick()

    def action_refresh_now(self) -> None:
        """Read files now, even while paused."""
        if isinstance(self.screen, FollowingScreen):
            self.screen.refresh_now()

    def action_open_help(self) -> None:
        """Show the keys of the screen below."""
        self.push_screen(HelpScreen(described_keys(self.screen.active_bindings.values(), self.get_key_display)))


def default_roots(environ: Mapping[str, str]) -> list[Path]:
    """Where runs are looked for when no root is named: QAD_CHECKPOINT_ROOT, else ./runs."""
    return [Path(environ.get("QAD_CHECKPOINT_ROOT") or "runs")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `qad-tui [ROOT ...]`."""
    parser = argparse.ArgumentParser(prog="qad-tui", description="Watch quantization-aware distillation runs.")
    parser.add_argument(
        "roots",
        nargs="*",
        type=Path,
        metavar="ROOT",
        help="folders with run folders, or run folders (default: $QAD_CHECKPOINT_ROOT, else ./runs)",
    )
    parser.add_argument("--version", action="version", version=f"qad-tui {__version__}")
    parsed = parser.parse_args(arguments)
    QadApp(parsed.roots or default_roots(os.environ)).run()


if __name__ == "__main__":
    main()
