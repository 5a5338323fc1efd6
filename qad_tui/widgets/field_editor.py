"""One line to type a value into, laid over the value in the form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input


class FieldEditor(Input):
    """Tells every change of the text at once; Escape takes them back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave_field(False)", "Undo typing", id="new.cancel_edit"),
        Binding("down,tab", "leave_field(True, 1)", "Keep, next field", id="new.keep_next", show=False),
        Binding("up,shift+tab", "leave_field(True, -1)", "Keep, previous field", id="new.keep_previous", show=False),
    ]

    @dataclass
    class Typed(Message):
        """The text of a field has changed."""

        key: str
        text: str

    @dataclass
    class Ended(Message):
        """Editing is over; `kept` is whether the text holds, `step` where the cursor goes on to."""

        key: str
        kept: bool
        step: int

    def __init__(self) -> None:
        super().__init__(compact=True)
        self.key: str | None = None
        self.display = False

    def edit(self, key: str, text: str, placeholder: str, region: Region) -> None:
        """Begin to edit a field; `region` is where its value stands, in the container."""
        self.key = None  # the text that is set now is nobody's typing
        with self.prevent(Input.Changed):
            self.value = text
        self.placeholder = placeholder
        self.key = key
        self.place(region)
        self.display = True
        self.cursor_position = len(text)
        self.focus()

    def place(self, region: Region) -> None:
        """Move over the value."""
        self.styles.offset = (region.x, region.y)
        self.styles.width = region.width

    def action_leave_field(self, kept: bool, step: int = 0) -> None:
        """End editing."""
        if self.key is None:
            return
        key, self.key = self.key, None
        self.display = False
        self.post_message(self.Ended(key, kept, step))

    @on(Input.Changed)
    def _tell_typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.key is not None:
            self.post_message(self.Typed(self.key, event.value))

    @on(Input.Submitted)
    def _keep(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_leave_field(True)

    @on(events.Blur)
    def _keep_on_blur(self) -> None:
        self.action_leave_field(True)
