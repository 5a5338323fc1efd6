"""A list to pick one of: experiments and parts of configs/ with what they are, or the choices of a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

_PATHS = (".yaml", ".yml", ".conf")


@dataclass(frozen=True)
class Pick:
    """Something to pick."""

    text: str
    """What comes of it."""
    label: str = ""
    """What is shown in place of the text."""
    description: str = ""

    @property
    def name(self) -> str:
        """What is shown."""
        return self.label or self.text


class PartPicker(ModalScreen[str | None]):
    """Typing narrows the list; dismisses with the text that was picked, or None."""

    CSS_PATH = "../styles/new_run.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "refuse", "Back", id="picker.back"),
        Binding("down", "move(1)", "Next", id="picker.next", show=False, priority=True),
        Binding("up", "move(-1)", "Previous", id="picker.previous", show=False, priority=True),
    ]

    def __init__(
        self, title: str, picks: Sequence[Pick], current: str, *, takes_path: bool = False, empty: str = ""
    ) -> None:
        """Pick for `title`; the cursor begins at `current`. With `takes_path` the path of a file is taken as well;
        `empty` says why there is nothing to pick."""
        super().__init__()
        self.picks = tuple(picks)
        self._title, self._current, self._takes_path, self._empty = title, current, takes_path, empty

    def compose(self) -> ComposeResult:
        """One box."""
        with Vertical(id="picker") as box:
            box.border_title = f" {self._title} "
            box.border_subtitle = " enter takes · escape leaves "
            hint = "type to narrow, or a path of a .yaml" if self._takes_path else "type to narrow"
            yield Input(placeholder=hint, compact=True, id="narrow")
            yield OptionList(id="picks")
            yield Static("", id="none")

    def on_mount(self) -> None:
        """Show all."""
        self._show("")

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        self._show(event.value)

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        text, picks = event.value.strip(), self.query_one(OptionList)
        if self._takes_path and text.endswith(_PATHS):
            self.dismiss(text)
        elif picks.highlighted is not None:
            self.dismiss(picks.get_option_at_index(picks.highlighted).id)

    @on(OptionList.OptionSelected)
    def _take_clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_id)

    def action_refuse(self) -> None:
        """Pick nothing."""
        self.dismiss(None)

    def action_move(self, step: int) -> None:
        """Move the cursor of the list, while one goes on typing."""
        picks = self.query_one(OptionList)
        if step > 0:
            picks.action_cursor_down()
        else:
            picks.action_cursor_up()

    def _show(self, text: str) -> None:
        found = _narrowed(self.picks, text)
        picks = self.query_one(OptionList)
        picks.clear_options()
        picks.add_options([Option(_picture(pick, pick.text == self._current), id=pick.text) for pick in found])
        names = [pick.text for pick in found]
        picks.highlighted = names.index(self._current) if not text and self._current in names else 0 if names else None
        said = self.query_one("#none", Static)
        said.display = not found
        said.update(Text(self._words_for_nothing(text)))

    def _words_for_nothing(self, text: str) -> str:
        if not self.picks:
            return self._empty or "There is nothing to pick."
        if self._takes_path and text.strip().endswith(_PATHS):
            return f"Enter takes the file {text.strip()}."
        return "Nothing is called that."


def _narrowed(picks: Sequence[Pick], text: str) -> list[Pick]:
    """The picks that have every word in name or description; those that have them in their name come first."""
    words = text.lower().split()
    found = [pick for pick in picks if all(word in f"{pick.name} {pick.description}".lower() for word in words)]
    return sorted(found, key=lambda pick: sum(word not in pick.name.lower() for word in words))


def _picture(pick: Pick, is_current: bool) -> Text:
    text = Text(f"{'●' if is_current else ' '} {pick.name}", "bold")
    if pick.description:
        text.append(f"\n    {pick.description}", "not bold dim")
    return text
