"""What the field under the cursor is: its key, what it takes, where its value comes from, and its doc line."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from qad_core.launch.draft import Draft
from qad_tui.form_model import FRESH, type_words
from qad_tui.form_rows import PICKED, Row, describe, short_origin


class FieldDoc(Static):
    """Two lines."""

    def __init__(self) -> None:
        super().__init__("", id="doc")

    def show(self, row: Row | None, draft: Draft, description: str, search: str) -> None:
        """Show a row's; `description` is of the part that is picked, `search` what nothing was found for."""
        if row is None:
            self.update(Text(f"No field has {search!r} in its name, value or description.", "yellow"))
        elif row.is_group:
            words = f"{row.name}: space opens and closes it; closed, it shows what is changed or wrong."
            self.update(Text(words, "dim"))
        else:
            self.update(_words(row.key, draft, description))


def _words(key: str, draft: Draft, description: str) -> Text:
    text = Text(key, "bold")
    if key != FRESH and key not in PICKED:
        text.append(f"  {type_words(key)}", "not bold cyan")
    base = draft.values.get(key)
    if base is not None:
        text.append(f"  {short_origin(base.origin)}: {base.text}", "not bold dim")
    return text.append(f"\n{description or describe(key)}", "not bold")
