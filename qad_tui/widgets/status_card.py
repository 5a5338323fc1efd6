"""Status of one run: state, stage, progress, speed, losses, health, and what to do.

Owns the order of the facts and how they are broken into lines; the facts are `qad_tui/run_facts.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.text import Text
from textual import events, on

from qad_tui import run_facts
from qad_tui.fleet import RunRow
from qad_tui.formats import short_run_name
from qad_tui.widgets.words import Words

Describe = Callable[[RunRow, float, int], Text]
"""(run, Unix time, cells of a line) -> its lines, broken between facts rather than inside them."""
_GAP = "   "


class StatusCard(Words):
    """Shows one RunRow; redrawn only when its words or its width changed."""

    def __init__(self, describe: Describe) -> None:
        """Show what `describe` says: one of the functions below."""
        super().__init__("")
        self._describe = describe
        self._row: RunRow | None = None
        self._now = 0.0

    def show(self, row: RunRow | None, *, now: float) -> None:
        """Show a run as of Unix time `now`, or nothing when none is chosen."""
        self._row, self._now = row, now
        self._redraw()

    @on(events.Resize)
    def _redraw(self) -> None:
        text = Text() if self._row is None else self._describe(self._row, self._now, self.content_size.width)
        self.say(text)
        self.display = bool(text)


def describe_loss(row: RunRow, now: float, width: int) -> Text:
    """That the run folder is gone, where it is."""
    return run_facts.gone() if row.gone else Text()


def describe_state(row: RunRow, now: float, width: int) -> Text:
    """Name, state, progress, and what SLURM adds to it."""
    name, progress = Text(short_run_name(row.run.name), "bold"), pack(run_facts.progress(row), width)
    return _together([name, progress, run_facts.way(row), run_facts.circumstance(row)])


def describe_numbers(row: RunRow, now: float, width: int) -> Text:
    """The newest numbers, the evaluations as a table, ages, chain and health."""
    ages, links = pack(run_facts.ages(row.run, now=now), width), pack(run_facts.links(row.view, now=now), width)
    return _together(
        [
            pack(run_facts.numbers(row.run), width),
            *_apart(run_facts.evaluation_table(row.run)),
            ages,
            links,
            Text(str(row.path), "dim"),
            *_apart(run_facts.health(row, compact=False)),
            *run_facts.unreadable(row.run),
        ]
    )


def describe_briefly(row: RunRow, now: float, width: int) -> Text:
    """The same in few lines."""
    ages, links = pack(run_facts.ages(row.run, now=now), width), pack(run_facts.links(row.view, now=now), width)
    numbers, evaluations = pack(run_facts.numbers(row.run), width), pack(run_facts.evaluations(row.run), width)
    health = run_facts.health(row, compact=True)
    return _together([numbers, evaluations, ages, links, *health, *run_facts.unreadable(row.run)])


def describe_error(row: RunRow, now: float, width: int) -> Text:
    """What the run itself says went wrong."""
    return _together(run_facts.failure(row.run))


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


def _together(lines: Iterable[Text]) -> Text:
    return Text("\n").join(line for line in lines if line.plain)


def _apart(lines: list[Text]) -> list[Text]:
    """The lines with an empty one before and behind them."""
    return [Text(" "), *lines, Text(" ")] if lines else []
