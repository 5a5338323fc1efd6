"""Why a run failed: the first root cause over all ranks, what to do, and the keys that do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual.widgets import Static

from qad_tui.states import LOOKS

if TYPE_CHECKING:
    from qad_core.run.failure import Failure


class FailureCard(Static):
    """Shows a Failure, that it is being looked for, or nothing."""

    DEFAULT_CSS = """
    FailureCard { height: auto; margin: 1 0 0 0; padding: 0 1; border: round $error; border-title-style: bold; }
    """

    def __init__(self, *, brief: bool = False) -> None:
        """A `brief` card leaves the lines of the log out."""
        super().__init__("")
        self._brief = brief
        self.failure: Failure | None = None
        self.display = False
        self.border_title = " Why it failed "

    def show(self, failure: Failure | None) -> None:
        """Show this failure, or nothing."""
        self.display = failure is not None
        if failure is not None and failure != self.failure:
            self.border_subtitle = _keys(failure)
            self.update(describe_failure(failure, brief=self._brief))
        self.failure = failure


def describe_failure(failure: Failure, *, brief: bool) -> Text:
    """The card's lines: title, message, place, advice, changes, and the log around it."""
    often = f" ({failure.times} starts in a row)" if failure.times > 1 else ""
    lines = [Text(f"{LOOKS['failed'].mark} {failure.title}{often}", LOOKS["failed"].style)]
    lines += [Text(failure.message)] if failure.message else []
    if place := _place(failure):
        lines.append(Text(place, "dim"))
    if failure.chain_stopped and failure.chain_stopped != failure.message:
        lines.append(Text(f"The chain was stopped: {failure.chain_stopped}", "yellow"))
    if failure.others:
        lines.append(Text(f"{failure.others} other rank(s) failed after it", "dim"))
    lines += [Text(f"→ {advice}") for advice in failure.advice]
    if failure.changes:
        lines.append(Text.assemble(("the fix  ", "dim"), ("  ".join(failure.changes), "bold green")))
    if not brief:
        lines += [Text(f"│ {line}", "dim") for line in failure.excerpt]
    return Text("\n").join(lines)


def _place(failure: Failure) -> str:
    parts = [f"rank {failure.rank}"] if failure.rank is not None else []
    parts += [failure.where] if failure.where else []
    parts += [f"line {failure.line}"] if failure.line else []
    return ", ".join(parts)


def _keys(failure: Failure) -> str:
    return " f clones it with this fix · Y copies the command " if failure.changes else " Y copies the command "
