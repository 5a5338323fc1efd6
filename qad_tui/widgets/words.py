"""Text that changes often: drawn anew only when it is another one, and laid out anew only when its height may differ.

A layout costs twenty times as much as drawing a line, and ages grow every second.
"""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class Words(Static):
    """A Static for `say`."""

    said = Text()
    """What is shown."""

    def say(self, text: Text) -> None:
        """Show a text."""
        before, self.said = self.said, text
        if text != before:
            self.update(text, layout=not keeps_height(before, text, self.content_size.width))


def keeps_height(before: Text, after: Text, width: int) -> bool:
    """Whether two texts surely take as many lines in so many cells: lines that are not the same are not folded."""
    lines = before.split("\n", allow_blank=True), after.split("\n", allow_blank=True)
    return len(lines[0]) == len(lines[1]) and all(
        old.plain == new.plain or max(old.cell_len, new.cell_len) <= width for old, new in zip(*lines, strict=True)
    )
