"""One job in a few lines: whose it is, what it does or waits for in full words, and what to do about it."""

from __future__ import annotations

from rich.text import Text

from qad_core.slurm.jobs import what_to_do
from qad_core.slurm.queue_view import (
    RunOfJob,
    elapsed_seconds,
    estimated_start,
    job_words,
    left_seconds,
    short_state,
    stage_of,
)
from qad_core.slurm.records import QueueEntry
from qad_tui.formats import format_duration, short_run_name
from qad_tui.widgets.queue_table import LOOKS


def describe_job(entry: QueueEntry | None, run: RunOfJob | None, *, now: float, user: str) -> Text:
    """The card's lines as of Unix time `now`; `user` is who looks."""
    if entry is None:
        return Text("")
    mark, style = LOOKS[stage_of(entry)]
    head = Text.assemble((f"{mark} {entry.job_id} {short_state(entry)}", style), f"  {_clean(entry.name)}")
    whose = "yours" if entry.user == user else f"{entry.user}'s"
    facts = [whose, *([f"account {entry.account}"] if entry.account else []), entry.partition, _size(entry)]
    lines = [head.append(f"  {', '.join(facts)}", "dim"), Text(_sentence(entry, now))]
    if advice := what_to_do(entry.reason):
        lines.append(Text(f"→ {advice}", "bold"))
    if entry.node_list:
        lines.append(Text(f"on {entry.node_list}", "dim"))
    if run is not None:
        lines.append(Text(f"link {run.place} of {short_run_name(run.path.name)}; enter opens its chain", "cyan"))
    return Text("\n").join(lines)


def _sentence(entry: QueueEntry, now: float) -> str:
    stage = stage_of(entry)
    words = job_words(entry)
    if stage in ("waiting", "held", "stuck"):
        since = "" if entry.submit_time is None else f"waits since {format_duration(now - entry.submit_time)}: "
        start = estimated_start(entry)
        expected = f"; expected to start in {format_duration(start - now)}" if start and start > now else ""
        return f"{since}{words}{expected}"
    if stage == "running":
        left = left_seconds(entry, now)
        rest = "" if left is None else f", {format_duration(left)} to its walltime"
        return f"{words} since {format_duration(elapsed_seconds(entry, now))}{rest}"
    ago = "" if entry.end_time is None else f" {format_duration(now - entry.end_time)} ago"
    return f"{words}{ago}, after {format_duration(entry.elapsed_seconds)}"


def _size(entry: QueueEntry) -> str:
    nodes = f"{entry.num_nodes} node{'' if entry.num_nodes == 1 else 's'}"
    return f"{nodes}, {entry.gpus} GPUs" if entry.gpus else nodes


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
