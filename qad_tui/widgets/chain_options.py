"""How a run is put into the queue: how many links, and behind which jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Checkbox, Input, Label, Select

from qad_tui.start_command import ChainOptions

AFTER = ("afterok", "afterany", "afternotok", "singleton")
_NOTHING = "nothing"


class TickBox(Checkbox):
    """Empty until it is ticked: Textual's is crossed always, and told apart by its colour alone."""

    BUTTON_INNER = " "

    def watch_value(self) -> None:
        """Draw the cross, or none."""
        self.BUTTON_INNER = "X" if self.value else " "  # pyright: ignore[reportConstantRedefinition]
        super().watch_value()


class ChainOptionsForm(Vertical):
    """Two lines of fields; posts every change."""

    @dataclass
    class Changed(Message):
        """Other links, or other jobs to wait for."""

        options: ChainOptions

    def __init__(self, seconds_per_iteration: float | None, names: Sequence[str]) -> None:
        """Begin with one link behind nothing; `names` of runs complete what is typed."""
        super().__init__()
        self._pace = "not measured" if seconds_per_iteration is None else f"{seconds_per_iteration:.3g} measured"
        self._names = tuple(names)

    @property
    def options(self) -> ChainOptions:
        """What is in the fields."""
        kind, job = self._kind, self.query_one("#job", Input).value.strip()
        after = {_NOTHING: "", "singleton": "singleton"}.get(kind, f"{kind}:{job}")
        until_done = self.query_one("#until-done", Checkbox).value
        links, pace = self.query_one("#links", Input).value, self.query_one("#pace", Input).value
        return ChainOptions(links, until_done, pace, after)

    def compose(self) -> ComposeResult:
        """Links, then what they wait for."""
        with Horizontal(classes="options"):
            yield Label("Links ")
            yield Input("1", type="integer", max_length=3, compact=True, id="links")
            yield TickBox("until done", compact=True, id="until-done")
            yield Label("   s a step ")
            yield Input(placeholder=self._pace, type="number", compact=True, id="pace")
        with Horizontal(classes="options"):
            yield Label("After ")
            choices = [(kind, kind) for kind in (_NOTHING, *AFTER)]
            yield Select(choices, value=_NOTHING, allow_blank=False, compact=True, id="after")
            yield Label(" of ")
            yield Input(
                placeholder="job id, or a run's name",
                suggester=SuggestFromList(self._names),
                compact=True,
                id="job",
                disabled=True,
            )

    @on(Input.Changed)
    @on(Checkbox.Changed)
    @on(Select.Changed)
    def _tell(self, event: events.Event | Message) -> None:
        event.stop()
        self.query_one("#job", Input).disabled = self._kind in (_NOTHING, "singleton")
        self.query_one("#links", Input).disabled = self.query_one("#until-done", Checkbox).value
        self.post_message(self.Changed(self.options))

    @property
    def _kind(self) -> str:
        return str(cast("Select[str]", self.query_one("#after", Select)).value)
