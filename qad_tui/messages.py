"""What threads tell screens, and what widgets ask of them; one typed message each.

A thread never touches a widget: it posts one of these, and an `@on` handler does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from qad_tui.run_follower import RunDetail
from qad_tui.runs_model import RunsDifference


@dataclass
class RunsPolled(Message, bubble=False):
    """The run folders were looked at."""

    difference: RunsDifference


@dataclass
class RunRead(Message, bubble=False):
    """What is new of the run that a screen follows."""

    detail: RunDetail


@dataclass
class RunChosen(Message):
    """The cursor of the table stands on this run, or on none."""

    path: Path | None


@dataclass
class RunOpened(Message):
    """Enter or a click asks to see this run full screen."""

    path: Path


class OlderLogWanted(Message):
    """The log is scrolled to the first line in memory, and the file has older ones."""
