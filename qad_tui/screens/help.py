"""Every key that works on the screen below, read from its bindings, so that it cannot drift from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from qad_tui.states import LOOKS


class HelpScreen(ModalScreen[None]):
    """Keys and signs; any of Escape, `?` and `q` closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "Close", id="help.close")]

    def __init__(self, keys: list[tuple[str, str]]) -> None:
        super().__init__()
        self.keys = keys

    def compose(self) -> ComposeResult:
        """One scrolling box."""
        with VerticalScroll(id="help") as box:
            box.border_title = "Keys"
            box.border_subtitle = "escape closes"
            yield Static(self._table())
            yield Static(_signs())
            yield Static(Text("Hold Shift (Option on a Mac) to select text with the terminal's own mouse.", "dim"))

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 3))
        for keys, description in self.keys:
            table.add_row(Text(keys, "bold cyan"), Text(description))
        return table


def described_keys(bindings: Iterable[ActiveBinding], key_display: Callable[[Binding], str]) -> list[tuple[str, str]]:
    """Keys and description of every action, the keys of one action joined; those of this product first.

    Ours have an id, by which a keymap can change them; the others come with Textual's widgets.
    """
    shown = [active.binding for active in bindings if active.binding.description and not active.binding.system]
    keys_of: dict[str, list[str]] = {}
    for binding in sorted(shown, key=lambda binding: binding.id is None):
        keys_of.setdefault(binding.description, []).append(key_display(binding))
    return [(" ".join(keys), description) for description, keys in keys_of.items()]


def _signs() -> Text:
    signs = (Text.assemble((look.mark, look.style), f" {state}") for state, look in LOOKS.items())
    return Text.assemble("\n", Text("   ").join(signs), "\n")
