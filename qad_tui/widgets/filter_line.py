"""One line to type a filter into; it comes with its key and goes with Escape."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class FilterLine(Input):
    """Hidden until `open`; Enter keeps the filter, Escape drops it."""

    DEFAULT_CSS = """
    FilterLine { display: none; height: 1; padding: 0 1; background: $surface; }
    FilterLine, FilterLine:focus { border: none; }
    FilterLine.-open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "drop", "Drop the filter", id="filter.drop")]

    def __init__(self, *, placeholder: str, id: str | None = None) -> None:  # noqa: A002 - as Textual names it
        """Empty; `placeholder` says what may be typed."""
        super().__init__(placeholder=placeholder, id=id, select_on_focus=False)

    class Filtered(Message):
        """The filter is another one."""

        def __init__(self, needle: str) -> None:
            super().__init__()
            self.needle = needle

    class Left(Message):
        """The keys are wanted elsewhere again."""

    @property
    def is_open(self) -> bool:
        """Whether it is on the screen."""
        return self.has_class("-open")

    def open(self) -> None:
        """Show it and take the keys."""
        self.add_class("-open")
        self.focus()

    def close(self) -> None:
        """Hide it, with nothing filtered."""
        self.remove_class("-open")
        self.value = ""

    def action_drop(self) -> None:
        """Filter nothing any more."""
        self.close()
        self.post_message(self.Left())

    @on(Input.Changed)
    def _tell(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Filtered(self.value))

    @on(Input.Submitted)
    def _leave(self, event: Input.Submitted) -> None:
        event.stop()
        if not self.value:
            self.close()
        self.post_message(self.Left())
