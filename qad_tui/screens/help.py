"""Every key that works on the screen below, read from its bindings, so that it cannot drift from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from qad_tui.states import LOOKS
from qad_tui.widgets.status_card import pack

Keys = list[tuple[str, str, str]]
"""The keys of an action, joined, what it does, and the ids by which settings.toml can change them, if it has any."""
HERE, EVERYWHERE, BESIDES = "Here", "Everywhere", "Besides"
_KEYS_WIDTH = 10
_NARROW, _WIDE = 54, 86
"""Cells of a line in the box."""


class HelpScreen(ModalScreen[None]):
    """Keys and signs, in two columns where there is room; any of Escape, `?` and `q` closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Close", id="help.close"),
        Binding("j", "scroll(1)", "Line down", id="help.down", show=False),
        Binding("k", "scroll(-1)", "Line up", id="help.up", show=False),
        Binding("i", "toggle_ids", "Ids", id="help.ids", show=False),
    ]

    def __init__(self, sections: dict[str, Keys], *, is_wide: bool) -> None:
        super().__init__()
        self.sections, self.is_wide = sections, is_wide
        self.shows_ids = False

    @property
    def keys(self) -> list[tuple[str, str]]:
        """All keys that are shown, with what they do."""
        return [(keys, description) for lines in self.sections.values() for keys, description, _ in lines]

    def compose(self) -> ComposeResult:
        """One scrolling box."""
        tables = {
            title: Static(_table(title, lines, ids=self.shows_ids)) for title, lines in self.sections.items() if lines
        }
        with VerticalScroll(id="help", classes="-wide" if self.is_wide else "") as box:
            box.border_title = "Keys"
            box.border_subtitle = f"i {'hides' if self.shows_ids else 'shows'} ids for settings.toml · escape closes"
            if self.is_wide and HERE in tables and not self.shows_ids:
                with Horizontal():
                    yield tables.pop(HERE)
                    yield Vertical(*tables.values())
            else:
                yield from tables.values()
            yield Static(_signs(_WIDE if self.is_wide else _NARROW))
            yield Static(Text("Hold Shift (Option on a Mac) to select text with the terminal's own mouse.", "dim"))

    async def action_toggle_ids(self) -> None:
        """Show the ids too, or no longer; with them there is one column."""
        self.shows_ids = not self.shows_ids
        await self.recompose()

    def action_scroll(self, step: int) -> None:
        """Scroll by a line."""
        self.query_one("#help", VerticalScroll).scroll_relative(y=step, animate=False)


def described_keys(bindings: Iterable[ActiveBinding], key_display: Callable[[Binding], str]) -> dict[str, Keys]:
    """Keys and description of every action, the keys of one action joined, in sections.

    Ours have an id, by which a keymap can change them; the others come with Textual's widgets.
    """
    shown = [active.binding for active in bindings if active.binding.description and not active.binding.system]
    found: dict[str, dict[tuple[str, str], tuple[list[str], list[str]]]] = {
        title: {} for title in (HERE, EVERYWHERE, BESIDES)
    }
    for binding in sorted(shown, key=lambda binding: binding.id is None):
        action = (binding.action.rpartition(".")[2], binding.description)
        keys, ids = found[_section_of(binding)].setdefault(action, ([], []))
        _add(keys, key_display(binding))
        _add(ids, binding.id or "")
    return {
        title: [(" ".join(keys), words, " ".join(ids).strip()) for (_, words), (keys, ids) in actions.items()]
        for title, actions in found.items()
    }


def _add(known: list[str], one: str) -> None:
    if one not in known:
        known.append(one)


def _section_of(binding: Binding) -> str:
    if binding.id is not None:
        return EVERYWHERE if binding.id.startswith("app.") else HERE
    return EVERYWHERE if binding.action == "quit" else BESIDES


def _table(title: str, lines: Keys, *, ids: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=_KEYS_WIDTH)
    table.add_row(Text(title, "bold underline"), Text(""))
    for keys, description, name in lines:
        table.add_row(Text(keys, "bold cyan"), Text(description), *([Text(name, "dim")] if ids else []))
    table.add_row(Text(" "), Text(""))
    return table


def _signs(width: int) -> Text:
    signs = (Text.assemble((look.mark, look.style), f" {state}") for state, look in LOOKS.items())
    return pack(signs, width).append("\n")
