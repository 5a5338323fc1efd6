"""A question over the screen, before something is done that cannot be undone; the answer is No unless chosen.

`app.push_screen(ConfirmScreen(...), callback)`: the callback gets the key of the choice, or None for No.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

_NO = "no"


@dataclass(frozen=True)
class Choice:
    """Something to do."""

    key: str
    """What the callback gets."""
    label: str
    """What it does, such as `Cancel job 12`."""
    note: str = ""
    """What comes of it."""


YES = Choice("yes", "Yes, do it")


class ConfirmScreen(ModalScreen[str | None]):
    """Question, facts, and choices below `No`, which the cursor stands on."""

    CSS_PATH = "../styles/confirm.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,q", "refuse", "No", id="confirm.no"),
        Binding("y", "accept", "Yes", id="confirm.yes", show=False),
        Binding("j", "move(1)", "Next choice", id="confirm.next", show=False),
        Binding("k", "move(-1)", "Previous choice", id="confirm.previous", show=False),
    ]

    def __init__(
        self, question: str, facts: Sequence[str] = (), choices: Sequence[Choice] = (YES,), *, no: str = "No, leave it"
    ) -> None:
        """Ask `question`, with one line a fact; `no` names what Escape and Enter do at first."""
        super().__init__()
        self.question = question
        self.facts = tuple(facts)
        self.choices = tuple(choices)
        self._no = no

    def compose(self) -> ComposeResult:
        """One box."""
        with Vertical(id="confirm") as box:
            box.border_title = " Are you sure? "
            box.border_subtitle = " enter chooses · escape is No "
            yield Static(Text(self.question, "bold"), id="question")
            if self.facts:
                with VerticalScroll(id="facts", can_focus=False):
                    yield Static(Text("\n".join(self.facts)))
            options = [Option(Text(self._no), id=_NO), *(self._option(choice) for choice in self.choices)]
            yield OptionList(*options, id="choices")

    def on_mount(self) -> None:
        """The cursor stands on No."""
        self.query_one(OptionList).highlighted = 0

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(None if event.option_id == _NO else event.option_id)

    def action_refuse(self) -> None:
        """No."""
        self.dismiss(None)

    def action_accept(self) -> None:
        """Yes, where there is one thing to say yes to; else the cursor goes to the first of them."""
        if len(self.choices) == 1:
            self.dismiss(self.choices[0].key)
        else:
            self.query_one(OptionList).highlighted = 1

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        choices = self.query_one(OptionList)
        if step > 0:
            choices.action_cursor_down()
        else:
            choices.action_cursor_up()

    def _option(self, choice: Choice) -> Option:
        text = Text(choice.label)
        if choice.note:
            text.append(f"\n  {choice.note}", "dim")
        return Option(text, id=choice.key)
