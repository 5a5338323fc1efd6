"""The end of a run told to a person who looks elsewhere: by the terminal, or by the desktop.

Owns what is an end, and the ways to tell it. Off unless settings.toml asks for it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qad_core.run.show import show_verdict
from qad_tui.formats import format_loss, short_run_name
from qad_tui.states import LOOKS

if TYPE_CHECKING:
    from qad_tui.fleet import Fleet, RunRow
    from qad_tui.states import RowState

Way = Literal["off", "terminal", "desktop"]
NOTIFY_SECONDS = 5
_ENDS: frozenset[RowState] = frozenset({"done", "stopped", "failed", "killed", "blocked"})
_LIVE: frozenset[RowState] = frozenset({"running", "starting", "silent", "queued"})
_APPLICATION = "qad-tui"


@dataclass(frozen=True)
class Ending:
    """A run that has just ended."""

    path: Path
    state: RowState
    words: str
    """What a notification says of it."""

    @property
    def title(self) -> str:
        """The run's name behind the mark of its state."""
        return f"{LOOKS[self.state].mark} {short_run_name(self.path.name)}"

    @property
    def is_bad(self) -> bool:
        """Whether somebody should look."""
        return self.state not in ("done", "stopped")


class EndingWatch:
    """Tells each end once, of runs that were seen alive: what had ended before is old news."""

    def __init__(self) -> None:
        self._live: set[Path] = set()
        self._told: set[tuple[Path, RowState, float]] = set()

    def look(self, fleet: Fleet) -> list[Ending]:
        """The runs that have ended since the last look."""
        endings: list[Ending] = []
        for path, row in fleet.rows.items():
            if row.state in _LIVE:
                self._live.add(path)
            elif row.state in _ENDS and path in self._live:
                self._live.remove(path)
                event = (path, row.state, row.run.status.started if row.run.status else 0.0)
                if event not in self._told:
                    self._told.add(event)
                    endings.append(Ending(path, row.state, _words(row)))
        return endings


def terminal_sequence(ending: Ending) -> str:
    """A bell, and OSC 9 with the words, which iTerm2, Windows Terminal, kitty and others show as a notification."""
    text = f"{ending.title}: {ending.words}"
    printable = "".join(character for character in text if character.isprintable())
    return f"\a\x1b]9;{printable}\x1b\\"


def tell_desktop(ending: Ending) -> bool:
    """Show it by notify-send; False where there is none, or it does not answer. Called in a thread."""
    command = shutil.which("notify-send")
    if command is None:
        return False
    urgency = "critical" if ending.is_bad else "normal"
    arguments = [command, f"--app-name={_APPLICATION}", f"--urgency={urgency}", "--", ending.title, ending.words]
    try:
        done = subprocess.run(
            arguments, capture_output=True, stdin=subprocess.DEVNULL, timeout=NOTIFY_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _words(row: RunRow) -> str:
    run, words = row.run, row.view.outlook.words
    if row.state != "done" or run.last_kl is None:
        return words
    won = f", {show_verdict(run.recovered, digits=0)}" if run.recovered is not None else ""
    return f"{words}: held-out KL {format_loss(run.last_kl)}{won}"
