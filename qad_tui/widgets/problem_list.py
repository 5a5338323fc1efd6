"""All problems of a form in one list; Enter on one asks for its field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from qad_core.launch.draft import DraftProblem


class ProblemList(OptionList):
    """Refilled only when the problems changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Go to field", id="problems.go"),
        Binding("j", "cursor_down", "Next problem", id="problems.next", show=False),
        Binding("k", "cursor_up", "Previous problem", id="problems.previous", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """This problem's field is asked for."""

        problem: DraftProblem

    def __init__(self) -> None:
        super().__init__(id="all-problems")
        self._problems: tuple[DraftProblem, ...] = ()

    def show(self, problems: Sequence[DraftProblem]) -> None:
        """Show these problems; the list is away where there are none."""
        self.display = bool(problems)
        if tuple(problems) == self._problems:
            return
        highlighted = self.highlighted
        self._problems = tuple(problems)
        self.clear_options()
        self.add_options([Option(_picture(item)) for item in problems])
        self.border_title = f" {len(problems)} problem{'s' if len(problems) > 1 else ''} "
        if problems and highlighted is not None:
            self.highlighted = min(highlighted, len(problems) - 1)

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Chosen(self._problems[event.option_index]))


def _picture(item: DraftProblem) -> Text:
    text = Text.assemble(("✗ ", "bold red"), item.problem.what)
    where = ", ".join(item.keys) or item.problem.where
    if where:
        text.append(f"\n  {where}", "dim")
    if item.problem.hint:
        text.append(f"\n  → {item.problem.hint}", "italic")
    return text
