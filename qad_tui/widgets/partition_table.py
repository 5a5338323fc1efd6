"""The cluster's partitions in a line each: free nodes and GPUs, and the longest walltime."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events, on
from textual.widgets import Static

from qad_core.slurm.partitions import PartitionEntry
from qad_tui.formats import format_short_duration, progress_bar

_BAR_WIDTH = 5


class PartitionTable(Static):
    """Shows PartitionEntries, or why there are none."""

    def __init__(self) -> None:
        super().__init__("")
        self._partitions: Sequence[PartitionEntry] | None = None
        self._problem = ""

    def show(self, partitions: Sequence[PartitionEntry] | None, problem: str) -> None:
        """Show these; None is before the first answer. A `problem` says that they are not of now."""
        if (partitions, problem) != (self._partitions, self._problem):
            self._partitions, self._problem = partitions, problem
            self._redraw()

    @on(events.Resize)
    def _redraw(self) -> None:
        self.update(describe_partitions(self._partitions, self._problem, width=max(30, self.content_size.width)))


def describe_partitions(partitions: Sequence[PartitionEntry] | None, problem: str, *, width: int) -> Text:
    """A line for each; the bar is what is in use, the numbers say what is free."""
    lines = [Text(f"⚠ {problem}", "bold yellow")] if problem else []
    if partitions is not None and not partitions:
        lines.append(Text("no partition that you may use", "dim"))
    name_width = min(16, max((len(one.name) + one.default for one in partitions or ()), default=0))
    lines += [_line(one, name_width, wide=width >= 76) for one in partitions or ()]
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _line(one: PartitionEntry, name_width: int, *, wide: bool) -> Text:
    name = f"{one.name}{'*' if one.default else ''}"
    line = Text.assemble((f"{name:<{name_width}.{name_width}} ", "bold"))
    if one.availability != "up":
        line.append(f"⚠ {one.availability} ", "bold yellow")
    usable = one.nodes - one.nodes_unavailable
    line.append_text(_share(one.nodes_idle, usable, wide=wide)).append(f"{one.nodes_idle} of {one.nodes} nodes free")
    if one.gpus:
        line.append("  ").append_text(_share(one.gpus_free, one.gpus, wide=wide))
        line.append(f"{one.gpus_free} of {one.gpus} GPUs free")
    if one.nodes_unavailable:
        line.append(f"  {one.nodes_unavailable} down", "yellow")
    limit = "no limit" if one.time_limit_seconds is None else f"to {format_short_duration(one.time_limit_seconds)}"
    return line.append(f"  {limit}", "dim")


def _share(free: int, total: int, *, wide: bool) -> Text:
    if not wide:
        return Text("")
    used = 1.0 - free / total if total else 1.0
    style = "red" if not free else "yellow" if used >= 0.8 else "green"
    return Text.assemble((progress_bar(used, _BAR_WIDTH), style), " ")
