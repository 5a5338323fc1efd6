"""What the list of runs says of itself: how many are in which state, and why it is empty. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from qad_tui.fleet import RunRow
from qad_tui.states import LOOKS, state_word

if TYPE_CHECKING:
    from qad_tui.states import RowState


def describe_list(rows: Sequence[RunRow], *, shown: int, needle: str, selected: int) -> Text:
    """How many runs there are in each state, and how many of them are shown."""
    counts: Counter[RowState] = Counter(row.state for row in rows)
    text = Text("", no_wrap=True, overflow="ellipsis")
    text.append(f"{len(rows)} run{'' if len(rows) == 1 else 's'}", "bold")
    for state, look in LOOKS.items():
        if counts[state]:
            text.append("  ").append(
                f"{look.mark} {counts[state]} {state_word(state)}", look.style.replace("bold ", "")
            )
    if needle:
        text.append(f"  ·  {shown} with {needle!r}", "bold yellow")
    if selected:
        text.append(f"  ·  {selected} selected", "bold")
    return text


def why_filtered(needle: str) -> Text:
    """Why no run is shown though there are some."""
    text = Text.assemble(("No run has ", ""), (repr(needle), "bold"), (" in its name, tag, state or stage.\n\n", ""))
    return text.append("  escape", "bold cyan").append("   shows all runs again")


def why_empty(roots: Sequence[Path]) -> Text:
    """Why there is no run on the screen, and what to type to get one."""
    places = ", ".join(str(root) for root in roots)
    text = Text.assemble(("No runs yet", "bold"), f" under {places}.\n\n")
    text.append(
        "A run is a folder with a config.yaml, status.json or metrics.jsonl; new ones appear here by themselves.\n\n"
    )
    commands = (
        ("2", "a new run, here on the screen"),
        ("qad_core demo", "a real model, quantized and won back: minutes"),
        ("qad_core train tiny", "a tiny model: under a minute"),
        ("qad-tui FOLDER", "look elsewhere (or set QAD_CHECKPOINT_ROOT)"),
        ("qad-tui --demo", "a recorded fleet, to look around in"),
    )
    for command, purpose in commands:
        text.append(f"  {command:<22}", "bold cyan")
        text.append(f"{purpose}\n")
    return text
