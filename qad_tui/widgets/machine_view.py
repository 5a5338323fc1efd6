"""A machine drawn as bars: cores, memory, GPUs, disks, with the last minutes as sparklines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events, on
from textual.widgets import Static

from qad_core.machine.disks import DiskState
from qad_core.machine.gpus import GpuState
from qad_core.machine.look import MachineState, warnings_of
from qad_tui.formats import MISSING, format_fraction, progress_bar

_NAME_WIDTH = 9
_SPARKS = "▁▂▃▄▅▆▇█"
_FULL, _HIGH = 0.95, 0.8
"""Shares from which a bar is red, and yellow."""


class MachineView(Static):
    """Shows the newest of some MachineStates, and the others as its history."""

    def __init__(self) -> None:
        super().__init__("")
        self._states: tuple[MachineState, ...] = ()

    def show(self, states: Sequence[MachineState]) -> None:
        """Show the last of these states; none yet says so."""
        self._states = tuple(states)
        self._redraw()

    @on(events.Resize)
    def _redraw(self) -> None:
        self.update(describe_machine(self._states, width=max(40, self.content_size.width)))


def describe_machine(states: Sequence[MachineState], *, width: int) -> Text:
    """The lines, oldest state first; `width` in cells."""
    if not states:
        return Text("looking at this machine …", "dim")
    now = states[-1]
    sections = [_warnings(now), _host(states, width), _gpus(states, width), _disks(now, width)]
    return Text("\n\n").join(section for section in sections if section)


def share_bar(share: float | None, width: int) -> Text:
    """A bar of `width` cells with its percentage; the colour tells how full it is, and so does the number."""
    if share is None:
        return Text(MISSING, "dim")
    style = "red" if share >= _FULL else "yellow" if share >= _HIGH else "green"
    return Text.assemble((progress_bar(share, width), style), f" {format_fraction(share):>5}")


def sparkline(shares: Sequence[float], width: int) -> Text:
    """The last `width` shares as blocks, 0 to 1."""
    marks = (_SPARKS[min(len(_SPARKS) - 1, int(max(0.0, share) * len(_SPARKS)))] for share in shares[-width:])
    return Text("".join(marks), "cyan")


def _warnings(state: MachineState) -> Text:
    return Text("\n").join(Text(f"⚠ {warning}", "bold yellow") for warning in warnings_of(state))


def _host(states: Sequence[MachineState], width: int) -> Text:
    host = states[-1].host
    load = "  ".join(f"{load:.2f}" for load in host.load)
    lines = [Text.assemble((host.name, "bold"), f"   {len(host.core_shares)} cores, {host.cores} for us   load {load}")]
    bar = _bar_width(width)
    history = sparkline([state.host.cpu_share for state in states], max(0, width - bar - _NAME_WIDTH - 10))
    lines.append(_line("CPU", Text.assemble(share_bar(host.cpu_share, bar), "  ", history)))
    lines += _core_lines(host.core_shares, width)
    used, total = host.memory_used, host.memory_total
    lines.append(_line("memory", Text.assemble(share_bar(used / total, bar), f"  {_gib(used)} of {_gib(total)} GiB")))
    if host.swap_total:
        share = share_bar(host.swap_used / host.swap_total, bar)
        lines.append(_line("swap", Text.assemble(share, f"  {_gib(host.swap_used)} of {_gib(host.swap_total)} GiB")))
    return Text("\n").join(lines)


def _core_lines(shares: Sequence[float], width: int) -> list[Text]:
    """One block a core, as many a line as fit."""
    room = max(8, width - _NAME_WIDTH)
    lines = [sparkline(shares[start : start + room], room) for start in range(0, len(shares), room)]
    return [_line("cores" if number == 0 else "", line) for number, line in enumerate(lines)]


def _gpus(states: Sequence[MachineState], width: int) -> Text:
    now = states[-1]
    if now.gpus.silence:
        return Text.assemble(("GPUs", "bold"), f"   {now.gpus.silence}")
    lines = [Text.assemble(("GPUs", "bold"), f"   {len(now.gpus.gpus)}")]
    for gpu in now.gpus.gpus:
        history = [_utilization(state, gpu.index) for state in states]
        lines += _gpu_lines(gpu, history, width)
    return Text("\n").join(lines)


def _gpu_lines(gpu: GpuState, history: Sequence[float], width: int) -> list[Text]:
    bar = _bar_width(width)
    facts = [gpu.name]
    facts += [] if gpu.temperature is None else [f"{gpu.temperature} °C"]
    facts += [] if gpu.power_watts is None else [f"{gpu.power_watts:.0f} of {gpu.power_limit_watts or 0:.0f} W"]
    facts += [] if gpu.processes is None else [f"{len(gpu.processes)} process{'' if len(gpu.processes) == 1 else 'es'}"]
    known = gpu.memory_used is not None and gpu.memory_total
    memory = share_bar(gpu.memory_used / gpu.memory_total if known else None, bar)  # type: ignore[operator]
    sparks = sparkline(history, max(0, width - bar - _NAME_WIDTH - 10))
    return [
        _line(f"{gpu.index}", Text("   ".join(facts), "dim")),
        _line("busy", Text.assemble(share_bar(gpu.utilization, bar), "  ", sparks)),
        _line("memory", Text.assemble(memory, f"  {_gib(gpu.memory_used)} of {_gib(gpu.memory_total)} GiB")),
    ]


def _utilization(state: MachineState, index: int) -> float:
    return next((gpu.utilization or 0.0 for gpu in state.gpus.gpus if gpu.index == index), 0.0)


def _disks(state: MachineState, width: int) -> Text:
    lines = [Text("Disks of the runs", "bold")]
    for disk in state.disks:
        lines += _disk_lines(disk, _bar_width(width))
    return Text("\n").join(lines)


def _disk_lines(disk: DiskState, bar: int) -> list[Text]:
    if disk.silence:
        return [Text(f"⚠ {disk.silence}", "bold yellow")]
    lines = [
        Text(str(disk.folder)),
        _line("bytes", Text.assemble(share_bar(disk.used_share, bar), f"  {_gib(disk.free)} GiB free")),
    ]
    if disk.inodes_free is not None:
        share = share_bar(disk.inodes_used_share, bar)
        lines.append(_line("inodes", Text.assemble(share, f"  {disk.inodes_free:,} free")))
    return lines


def _line(name: str, rest: Text) -> Text:
    return Text.assemble((f"{name:>{_NAME_WIDTH - 2}}  ", "dim"), rest)


def _bar_width(width: int) -> int:
    return max(10, min(40, width // 3))


def _gib(size: int | None) -> str:
    return MISSING if size is None else f"{size / 2**30:.1f}"
