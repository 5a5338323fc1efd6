"""One line at the top: the places to go to on the left, how fresh the screen is on the right."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.widgets import Static

from qad_tui.formats import format_duration

PLACES = (("runs", "Runs"), ("new", "New"), ("queue", "Queue"), ("compare", "Compare"), ("system", "System"))
"""Names of the places and their words; the number keys go to them in this order."""
_LATE_POLLS = 5
"""The screen is stale after so many polls without an answer."""


class TopBar(Static):
    """Places and freshness; redrawn only when its words or its width changed."""

    def __init__(self) -> None:
        super().__init__("")
        self._shown: Text | None = None

    def show(self, place: str, freshness: Text) -> None:
        """Replace the line; `place` is where we are."""
        line = _places(place)
        room = max(0, self.content_size.width - line.cell_len)
        freshness = freshness.copy()
        freshness.truncate(max(0, room - 1), overflow="ellipsis")
        line.append(" " * max(0, room - freshness.cell_len))
        line.append_text(freshness)
        if line != self._shown:
            self._shown = line
            self.update(line, layout=False)


def freshness_words(age: float, poll_seconds: float, *, is_first: bool, paused: bool) -> Text:
    """How old the screen is: live, paused, or stale.

    `age` is in seconds since the last answer, or since the start where the first one has not come.
    """
    is_late = age > max(5.0, _LATE_POLLS * poll_seconds)
    if paused:
        since = "" if is_first else f" {format_duration(age)}"
        return Text(f"‖ PAUSED{since}, p goes on", "bold yellow")
    if is_first:
        words = f"⚠ the disk has not answered for {format_duration(age)}"
        return Text(words, "bold yellow") if is_late else Text("looking for runs …", "dim")
    return Text(f"⚠ stale {format_duration(age)}", "bold yellow") if is_late else Text("● live", "green")


def _places(current: str) -> Text:
    line = Text("")
    for number, (name, word) in enumerate(PLACES, 1):
        style = Style(bold=True, reverse=True) if name == current else Style(meta={"@click": f"app.go('{name}')"})
        line.append(f" {number} {word} ", style)
        line.append(" ")
    return line
