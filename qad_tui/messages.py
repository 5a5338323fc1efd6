"""What threads tell the application, and what widgets ask of screens; one typed message each.

A thread never touches a widget: it posts one of these, and an `@on` handler does the rest. Messages between a
pane and its own thread are defined beside the pane.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from qad_tui.fleet import Fleet
    from qad_tui.settings import State
    from qad_tui.slurm_watch import SlurmSnapshot


@dataclass
class FleetSeen(Message, bubble=False):
    """The run folders were looked at."""

    fleet: Fleet


@dataclass
class SlurmSeen(Message, bubble=False):
    """SLURM was asked."""

    snapshot: SlurmSnapshot | Exception
    """What it said, or what our own bug raised."""


@dataclass
class StateKept(Message, bubble=False):
    """What was chosen on the screen was written down, or could not be."""

    state: State
    problem: str


@dataclass
class KeysChecked(Message, bubble=False):
    """A person's own keys were held against those that there are."""

    problems: list[str]


@dataclass
class RunChosen(Message):
    """The cursor of a table stands on this run, or on none."""

    path: Path | None


@dataclass
class RunOpened(Message):
    """Enter or a click asks to see this run full screen."""

    path: Path
