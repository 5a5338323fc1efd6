"""A run's chain drawn: a table of its links, a timeline of when each waited and ran, and one link in full words.

Owns the drawing. What is known of the links comes to `show`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from qad_core.errors import ExitCode
from qad_core.slurm.links import LinkView, Stage
from qad_tui.chain_rows import LinkRow
from qad_tui.formats import format_duration, format_short_duration
from qad_tui.widgets.line_columns import Cell, LineColumn
from qad_tui.widgets.line_table import LineTable

LOOKS: dict[Stage, tuple[str, str, str]] = {
    "running": ("●", "runs", "bold green"),
    "pending": ("○", "waits", "cyan"),
    "ended": ("■", "ended", ""),
    "refused": ("✗", "refused", "bold red"),
    "lost": ("?", "lost", "yellow"),
    "unknown": ("?", "unknown", "yellow"),
}
"""Mark, word and style of a stage."""
MOST_LANES = 12
"""Links in the timeline: the last ones."""
_NAME_WIDTH = 7


class ChainTable(LineTable[LinkRow]):
    """Links, oldest first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy the job's id", id="chain.copy", show=False)]

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(self._columns(), lambda row: row.key)

    def subject_of(self, row: LinkRow) -> str:
        """The link's job, by SLURM's id."""
        return row.view.job.slurm_job_id or row.key

    def show(self, rows: Sequence[LinkRow], *, now: float) -> None:
        """Show these links as of Unix time `now`; until it is moved the cursor is on the first that waits or runs."""
        self._now = now
        self.show_rows(rows)
        if not self.was_moved:
            self.move_to(next((number for number, row in enumerate(rows) if row.view.live), len(rows) - 1))

    def _columns(self) -> list[LineColumn[LinkRow]]:
        return [
            LineColumn("link", "Link", 5, 0, lambda row: Cell(row.place), right=True),
            LineColumn("job", "Job", 8, 0, lambda row: Cell(row.view.job.slurm_job_id or "?"), right=True),
            LineColumn("what", "What", 24, 0, lambda row: _what_cell(row.view), grows=4),
            LineColumn("waits", "Waits for", 16, 8, lambda row: Cell(_waits_for(row.view)), grows=1),
            LineColumn("submitted", "Submitted", 9, 9, lambda row: self._ago(row.view.job.submitted), right=True),
            LineColumn("started", "Started", 9, 3, lambda row: self._started(row.view), right=True),
            LineColumn("ended", "Ended", 9, 6, lambda row: self._ago(row.view.ended), right=True),
            LineColumn("used", "Used", 5, 2, lambda row: _span(row.view.elapsed_seconds), right=True),
            LineColumn("left", "Left", 5, 1, lambda row: _span(row.view.left_seconds), right=True),
            LineColumn("exit", "Exit code", 17, 5, lambda row: Cell(row.exit_words)),
            LineColumn("steps", "Steps", 13, 4, lambda row: Cell(row.steps)),
            LineColumn("nodes", "Nodes", 12, 7, lambda row: Cell(row.view.node_list)),
        ]

    def _ago(self, moment: float | None) -> Cell:
        return Cell("" if moment is None else f"{format_short_duration(self._now - moment)} ago")

    def _started(self, view: LinkView) -> Cell:
        start = view.estimated_start
        if view.stage == "pending" and start is not None and start > self._now:
            return Cell(f"in {format_short_duration(start - self._now)}", "cyan")
        return self._ago(view.started)


def describe_link(row: LinkRow, facts_logs: frozenset[str], *, now: float) -> Text:
    """One link in full words, with what to do where waiting will not help."""
    view, job = row.view, row.view.job
    mark, style = mark_of(view)
    lines = [Text.assemble((f"{mark} link {row.place}, job {job.slurm_job_id or '?'}: {view.words}", style))]
    if view.never_starts:
        lines.append(Text("✗ It can never start: X clears the chain, x this job.", "bold red"))
    lines += [Text(f"→ {view.what_to_do}", "bold")] if view.what_to_do else []
    lines += [Text(_times(row, now))]
    facts = [f"exit code {row.exit_words}" if row.exit_words else "", row.stopped_by]
    facts += [f"steps {row.steps}" if row.steps else "", f"started {job.restarts + 1} times" if job.restarts else ""]
    facts += [f"on {view.node_list}" if view.node_list else ""]
    if known := [fact for fact in facts if fact]:
        lines.append(Text("; ".join(known)))
    waits = _waits_for(view)
    lines += [Text(f"waits for {waits}", "dim")] if waits and view.stage == "pending" else []
    lines += [Text(f"its chain was stopped: {row.chain_stop}", "yellow")] if row.chain_stop else []
    for path in view.logs:
        there = "" if str(path) in facts_logs else " (not there yet)" if view.live else " (gone)"
        lines.append(Text(f"log {path}{there}", "dim"))
    return Text("\n").join(lines)


def describe_timeline(rows: Sequence[LinkRow], *, now: float, width: int) -> Text:
    """A lane for each link: dots while it waited, blocks while it ran, shades for what SLURM expects."""
    shown = rows[-MOST_LANES:]
    moments = [moment for row in shown for moment in _moments(row.view, now)]
    if len(moments) < 2 or width < _NAME_WIDTH + 20:
        return Text("")
    first, last = min(moments), max(max(moments), min(moments) + 1.0)
    room = width - _NAME_WIDTH
    lanes = [_lane(row, first, last, now, room) for row in shown]
    return Text("\n").join([*lanes, _axis(first, last, now, room)])


def mark_of(view: LinkView) -> tuple[str, str]:
    """Mark and style of a link; one that can never start, or failed, is red."""
    mark, _, style = LOOKS[view.stage]
    if view.never_starts:
        return "✗", "bold red"
    if view.stage == "ended":
        if view.exit_code == ExitCode.DONE or view.state == "COMPLETED":
            return "✓", "green"
        return (mark, "yellow") if view.exit_code == ExitCode.STOPPED_EARLY else ("✗", "red")
    return mark, style


def _what_cell(view: LinkView) -> Cell:
    mark, style = mark_of(view)
    return Cell(f"{mark} {view.words}", style)


def _waits_for(view: LinkView) -> str:
    return view.waits_for


def _span(seconds: float | None) -> Cell:
    return Cell("" if seconds is None else format_short_duration(seconds))


def _times(row: LinkRow, now: float) -> str:
    view, job = row.view, row.view.job
    parts = [f"submitted {_clock(job.submitted)}"] if job.submitted else []
    parts += [f"started {_clock(view.started)}"] if view.started else []
    if view.estimated_start is not None and view.estimated_start > now:
        ahead = format_duration(view.estimated_start - now)
        parts.append(f"expected to start in {ahead}, {_clock(view.estimated_start)}")
    parts += [f"ended {_clock(view.ended)}"] if view.ended else []
    parts += [f"ran {format_duration(view.elapsed_seconds)}"] if view.elapsed_seconds is not None else []
    limit = job.time_limit_seconds
    parts += [f"of {format_duration(limit)} walltime"] if limit else []
    parts += [f"{format_duration(view.left_seconds)} left"] if view.left_seconds is not None else []
    return ", ".join(parts)


def _clock(moment: float) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(moment))


def _moments(view: LinkView, now: float) -> list[float]:
    known = [view.job.submitted, view.started, view.ended, *_expected_run(view, now)]
    found = [moment for moment in known if moment is not None]
    return [*found, now] if view.live else found


def _expected_run(view: LinkView, now: float) -> list[float]:
    limit = view.job.time_limit_seconds
    if view.stage == "running" and view.left_seconds is not None:
        return [now + view.left_seconds]
    if view.stage == "pending" and view.estimated_start is not None and view.estimated_start > now:
        return [view.estimated_start, view.estimated_start + (limit or 0)]
    return []


def _lane(row: LinkRow, first: float, last: float, now: float, room: int) -> Text:
    view = row.view
    _, style = mark_of(view)

    def at(moment: float) -> int:
        return min(room - 1, max(0, int((moment - first) / (last - first) * (room - 1))))

    cells = [" "] * room
    ended = view.ended or (now if view.live else view.started)
    started = view.started or (now if view.stage == "pending" else view.ended)
    if view.job.submitted is not None and started is not None:
        _fill(cells, at(view.job.submitted), at(started), "·")
    if view.started is not None and ended is not None:
        _fill(cells, at(view.started), at(ended), "█")
    expected = _expected_run(view, now)
    if expected:
        _fill(
            cells,
            at(expected[0] if view.stage == "pending" else now) + (view.stage == "running"),
            at(expected[-1]),
            "░",
        )
    return Text.assemble((f"{row.place:>{_NAME_WIDTH - 2}}  ", "dim"), ("".join(cells), style or "default"))


def _fill(cells: list[str], start: int, end: int, character: str) -> None:
    for number in range(start, end + 1):
        cells[number] = character


def _axis(first: float, last: float, now: float, room: int) -> Text:
    line = [" "] * room
    begin, end = f"{format_short_duration(now - first)} ago", _end_words(last - now)
    line[: len(begin)] = begin
    line[room - len(end) :] = end
    at_now = int((now - first) / (last - first) * (room - 1))
    if len(begin) + 1 < at_now < room - len(end) - 4:
        line[at_now : at_now + 4] = "↑now"
    return Text(" " * _NAME_WIDTH + "".join(line[:room]), "dim")


def _end_words(ahead: float) -> str:
    if abs(ahead) < 1:
        return "now"
    return f"in {format_short_duration(ahead)}" if ahead > 0 else f"{format_short_duration(-ahead)} ago"
