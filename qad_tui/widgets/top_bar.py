"""One line at the top: where we are on the left, how fresh it is on the right."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from qad_tui.formats import format_duration

_LATE_POLLS = 5
"""The screen is stale after so many polls without an answer."""


class TopBar(Static):
    """Title and freshness; redrawn only when its words or its width changed."""

    def __init__(self) -> None:
        super().__init__("")
        self._shown: Text | None = None

    def show(self, title: Text, freshness: Text) -> None:
        """Replace the line."""
        room = max(0, self.content_size.width - freshness.cell_len - 2)
        title = title.copy()
        title.truncate(room, overflow="ellipsis", pad=True)
        line = Text.assemble(title, "  ", freshness)
        if line != self._shown:
            self._shown = line
            self.update(line)


def freshness_words(age: float | None, *, poll_seconds: float, paused: bool) -> Text:
    """How old the screen is (`age` in seconds since the last answer): live, paused, or stale."""
    if paused:
        since = "" if age is None else f" as of {format_duration(age)} ago,"
        return Text(f"‖ PAUSED{since} p goes on", "bold yellow")
    if age is None:
        return Text("looking for runs …", "dim")
    if age > max(5.0, _LATE_POLLS * poll_seconds):
        return Text(f"⚠ stale, last look {format_duration(age)} ago", "bold yellow")
    return Text("● live", "green")
