"""Copying to the clipboard, and the word that it was done."""

from __future__ import annotations

from textual.widget import Widget


def copy_text(widget: Widget, text: str) -> None:
    """Copy a text of a widget; one of several lines is told by their number."""
    widget.app.copy_to_clipboard(text)  # pyright: ignore[reportUnknownMemberType]
    lines = text.count("\n")
    widget.notify(f"{lines} lines" if lines else text, title="Copied", markup=False)
