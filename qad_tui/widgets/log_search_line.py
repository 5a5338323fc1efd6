"""The line below a log: where one types what to look for or a place to go to, and what came of it.

Owns the field and the words. It searches nothing: what was typed is told by messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from qad_tui.widgets.words import Words

_HINT = "enter searches on · ↑ up · ↓ down · escape closes"
_PLACE_HINT = "percent of the file · enter goes there · escape closes"


class LogSearchLine(Horizontal):
    """Hidden while nothing is typed and nothing is said."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "search(False)", "Search up", id="log_search.up", show=False),
        Binding("down", "search(True)", "Search down", id="log_search.down", show=False),
    ]

    @dataclass
    class Typed(Message):
        """What stands in the field of a search."""

        words: str

    @dataclass
    class SearchWanted(Message):
        """The words are to be looked for, `forward` or back; None lets the log choose."""

        words: str
        forward: bool | None

    @dataclass
    class PlaceWanted(Message):
        """Go to this share of the file, 0 to 1."""

        share: float

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False
        self._asks_for_place = False
        self._searched = ""

    def compose(self) -> ComposeResult:
        """Prompt, field, words."""
        yield Static("/", id="log-prompt")
        yield Input(id="log-field", compact=True, select_on_focus=True)
        yield Words("", id="log-said")

    def on_mount(self) -> None:
        """Nothing is shown at first."""
        self._arrange()

    def open(self, *, place: bool = False) -> None:
        """Let a person type a pattern, or with `place` a percentage."""
        self.is_open, self._asks_for_place = True, place
        self.query_one("#log-prompt", Static).update("go to %" if place else "/")
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = "" if place else self._searched
        self.say(_PLACE_HINT if place else _HINT)
        field.focus()

    def close(self) -> None:
        """Hide the field; what was said stays."""
        self.is_open = False
        self._arrange()

    def say(self, words: str) -> None:
        """Say something beside the field, or nothing."""
        self.query_one("#log-said", Words).say(Text(words))
        self._arrange(words)

    def action_search(self, forward: bool) -> None:
        """Search in one direction."""
        self._submit(self.query_one(Input).value, forward)

    @on(Input.Changed)
    def _tell(self, event: Input.Changed) -> None:
        event.stop()
        if not self._asks_for_place:
            self.post_message(self.Typed(event.value))

    @on(Input.Submitted)
    def _search_on(self, event: Input.Submitted) -> None:
        event.stop()
        self._submit(event.value, None)

    def _submit(self, value: str, forward: bool | None) -> None:
        if not self._asks_for_place:
            self._searched = value
            self.post_message(self.SearchWanted(value, forward))
            return
        try:
            share = float(value.strip().removesuffix("%")) / 100
        except ValueError:
            self.say(f"{value!r} is no percentage, such as 50")
            return
        self.post_message(self.PlaceWanted(min(1.0, max(0.0, share))))

    def _arrange(self, words: str | None = None) -> None:
        said = self.query_one("#log-said", Words)
        has_words = bool(said.said if words is None else words)
        for node in (self.query_one("#log-prompt"), self.query_one(Input)):
            node.display = self.is_open
        self.display = self.is_open or has_words
