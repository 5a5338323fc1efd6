"""Status of one run: state, stage, progress, speed, losses, health, and what to do.

Owns the order of the facts and how they are broken into lines; the facts are `qad_tui/run_facts.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text
from textual import events, on
from textual.widgets import Static

from qad_tui import run_facts
from qad_tui.fleet import RunRow
from qad_tui.formats import short_run_name

_GAP = "   "


class StatusCard(Static):
    """Shows one RunRow; redrawn only when its words or its width changed."""

    def __init__(self, *, compact: bool) -> None:
        """A `compact` card leaves the table of evaluations and the way to steady training out."""
        super().__init__("")
        self._compact = compact
        self._row: RunRow | None = None
        self._now = 0.0
        self._explained = False
        self._shown = Text()

    def show(self, row: RunRow | None, *, now: float, explained: bool) -> None:
        """Show a run as of Unix time `now`, or nothing when none is chosen.

        A failure that is `explained` elsewhere is not told here again.
        """
        self._row, self._now, self._explained = row, now, explained
        self._redraw()

    @on(events.Resize)
    def _redraw(self) -> None:
        width = self.content_size.width
        text = describe_run(self._row, now=self._now, width=width, compact=self._compact, explained=self._explained)
        if text != self._shown:
            self._shown = text
            self.update(text)


def describe_run(row: RunRow | None, *, now: float, width: int, compact: bool, explained: bool) -> Text:
    """The card's lines, broken between facts rather than inside them."""
    if row is None:
        return Text()
    run = row.run
    lines = [run_facts.warning("this run folder is gone; below is what was last seen of it")] if row.gone else []
    lines.append(Text(short_run_name(run.name), "bold"))
    lines.append(pack(run_facts.progress(row), width))
    if not compact:
        lines.append(run_facts.way(row.view))
    lines.append(run_facts.circumstance(row.view))
    lines.append(pack(run_facts.numbers(run), width))
    if compact:
        lines.append(pack(run_facts.evaluations(run), width))
    else:
        lines += _apart(run_facts.evaluation_table(run))
    lines.append(pack(run_facts.ages(run, now=now), width))
    lines.append(pack(run_facts.links(row.view, now=now), width))
    health = run_facts.health(row, compact=compact)
    lines += health if compact else _apart(health)
    lines += [] if explained else run_facts.failure(run)
    lines += run_facts.unreadable(run)
    return Text("\n").join(line for line in lines if line.plain)


def pack(facts: Iterable[Text], width: int) -> Text:
    """Facts side by side in lines of at most `width` cells; one fact is never broken."""
    packed, room = Text(), 0
    for fact in facts:
        if packed and fact.cell_len + len(_GAP) <= room:
            packed.append(_GAP)
            room -= len(_GAP)
        elif packed:
            packed.append("\n")
            room = width
        else:
            room = width
        packed.append_text(fact)
        room -= fact.cell_len
    return packed


def _apart(lines: list[Text]) -> list[Text]:
    """The lines with an empty one before and behind them."""
    return [Text(" "), *lines, Text(" ")] if lines else []
