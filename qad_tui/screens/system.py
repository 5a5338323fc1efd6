"""This machine: processors, memory, GPUs, and the disks that runs are kept on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message

from qad_core.machine.look import MachineState, look_at_machine
from qad_tui.screens.base import QadScreen
from qad_tui.widgets.machine_view import MachineView

INTERVAL_SECONDS = 2.0
HISTORY = 150
"""States kept, for five minutes of history."""


@dataclass
class MachineSeen(Message, bubble=False):
    """The machine was looked at."""

    state: MachineState


class SystemScreen(QadScreen):
    """Looks every 2 s while on top; a file server that hangs holds up its own thread only."""

    PLACE = "system"
    CSS_PATH = "../styles/system.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "#machine"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_machine(1)", "Down", id="system.down", show=False),
        Binding("k", "scroll_machine(-1)", "Up", id="system.up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._states: deque[MachineState] = deque(maxlen=HISTORY)
        self._looking = False
        self._looked_at = 0.0

    def compose_body(self) -> ComposeResult:
        """One scrolling page."""
        with VerticalScroll(id="machine"):
            yield MachineView()

    def on_mount(self) -> None:
        """Draw at once that we are looking."""
        self.query_one(MachineView).show(self._states)
        super().on_mount()

    def tick(self) -> None:
        """Look again when it is time."""
        super().tick()
        if not self.qad.paused and self.qad.now() - self._looked_at >= INTERVAL_SECONDS:
            self.refresh_now()

    def refresh_now(self) -> None:
        """Look once, unless a look is under way."""
        if not self._looking:
            self._looking, self._looked_at = True, self.qad.now()
            self._look_in_thread(self.qad.roots)

    @work(thread=True, group="machine")
    def _look_in_thread(self, folders: Sequence[Path]) -> None:
        self.post_message(MachineSeen(look_at_machine(folders)))

    @on(MachineSeen)
    def _keep(self, message: MachineSeen) -> None:
        self._looking = False
        self._states.append(message.state)
        self.query_one(MachineView).show(self._states)

    def action_scroll_machine(self, lines: int) -> None:
        """Scroll the page."""
        self.query_one("#machine").scroll_relative(y=lines, animate=False)
