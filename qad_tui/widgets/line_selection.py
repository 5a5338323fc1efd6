"""Text of widgets that draw their own lines can be selected with the mouse: what is marked, and what is copied.

Textual asks a line for its place in the text when the mouse is pressed on it. A line says so only while the mouse
is over its widget: to say it costs as much as to draw the line.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from qad_tui.widgets.log_drawing import selected_span, selected_text


def selectable(widget: Widget, strip: Strip, y: int) -> Strip:
    """Line `y` of the widget's text with what is selected of it."""
    if (selection := widget.text_selection) is not None:
        text = strip.text
        if (span := selected_span(selection, y, len(text))) is not None:
            look = widget.screen.get_component_rich_style("screen--selection")
            strip = _mark(strip, cell_len(text[: span[0]]), cell_len(text[: span[1]]), look)
    return strip.apply_offsets(0, y) if widget.mouse_hover else strip


def text_within(selection: Selection, first: int, last: int, text_of: Callable[[int], str]) -> str:
    """The selected text; a selection that has come from or gone on to another widget takes lines `first` to `last`."""
    start = first if selection.start is None else selection.start.y
    end = last if selection.end is None else min(last, selection.end.y)
    return selected_text([text_of(y).rstrip() for y in range(start, end + 1)], selection, start)


def _mark(strip: Strip, first: int, last: int, look: Style) -> Strip:
    marked = [Segment(segment.text, (segment.style or Style.null()) + look) for segment in strip.crop(first, last)]
    return Strip.join([strip.crop(0, first), Strip(marked), strip.crop(last)])
