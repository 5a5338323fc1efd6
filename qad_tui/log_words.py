"""What is said about a log: whose it is, why it has no line, where a line found stands.

Pure; no Textual.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from qad_tui.formats import shorten_middle
from qad_tui.log_window import LogWindow, WindowLine

if TYPE_CHECKING:
    from qad_tui.log_reader import LogState

_NAME_WIDTH = 48


def title_of(state: LogState, top: WindowLine | None, *, following: bool) -> str:
    """Whose log it is and what part of it is seen: `rank 0 · start 2 · following · 1.2 GB · student_qad_....log`."""
    window, source = state.window, state.source
    if window is None:
        return "none yet"
    who = (source.who, source.when) if source else ("", "")
    gone = "FILE GONE, last lines seen" if not window.exists and window.lines else ""
    place = "" if gone else _place_of(window, top, following=following)
    return " · ".join(part for part in (*who, gone, place, shorten_middle(window.path.name, _NAME_WIDTH)) if part)


def why_without_lines(state: LogState) -> str:
    """Why there is no line to see, and what to do about it."""
    window = state.window
    if window is None:
        return (
            "No log yet. Each rank writes one when it starts, and a SLURM job as soon as it runs; "
            "it appears here by itself."
        )
    if window.problem:
        return f"{window.path.name} cannot be read: {window.problem}. t shows the run's other logs."
    if not window.exists:
        return f"Waits for {window.path.name}: the file is not there yet."
    return "The file is empty so far."


def where_in_file(window: LogWindow, line: WindowLine | None) -> str:
    """Where a line stands: its number where that is known, and its share of the file."""
    if line is None or window.size == 0:
        return ""
    percent = f"{100 * line.offset / window.size:.0f} %"
    if window.first_number is None:
        return f"{percent} of {format_bytes(window.size)}"
    number = window.first_number + bisect_left(window.lines, line.offset, key=lambda one: one.offset)
    return f"line {number:,} · {percent} of {format_bytes(window.size)}"


def format_bytes(size: int) -> str:
    """A size with a decimal unit: `812 B`, `1.2 kB`, `1.07 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.3g} {unit}" if unit != "B" else f"{size} B"
        value /= 1000
    return ""


def _place_of(window: LogWindow, top: WindowLine | None, *, following: bool) -> str:
    if window.problem and window.lines:
        return f"cannot be read on: {window.problem}"
    if not window.lines:
        return ""
    if following:
        return f"following · {format_bytes(window.size)}"
    return f"paused at {where_in_file(window, top)} · G follows"
