"""`qad_core system`: processors, memory, GPUs and disks of this machine now."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.output import console, make_table, print_json
from qad_core.commands.runs import run_roots
from qad_core.machine.look import MachineState, look_at_machine, warnings_of
from qad_core.run.show import show_fraction

_SAMPLE_SECONDS = 0.5


def show_system(roots: Sequence[Path], *, as_json: bool) -> None:
    """Print the machine, and the file systems of the roots; processors are measured over half a second."""
    state = look_at_machine(run_roots(roots), over_seconds=_SAMPLE_SECONDS)
    if as_json:
        print_json({**dataclasses.asdict(state), "warnings": warnings_of(state)})
        return
    table = make_table("", "")
    for name, words in _facts(state):
        table.add_row(name, words)
    console().print(table)
    for warning in warnings_of(state):
        console().print(f"warning: {warning}", markup=False)


def _facts(state: MachineState) -> list[tuple[str, str]]:
    host = state.host
    facts = [
        ("host", host.name),
        ("processors", f"{show_fraction(host.cpu_share)} of {len(host.core_shares)} cores in use, {host.cores} for us; "
                       f"load {', '.join(f'{load:.2f}' for load in host.load)}"),
        ("memory", f"{_gib(host.memory_used)} of {_gib(host.memory_total)} GiB in use"),
    ]  # fmt: skip
    for gpu in state.gpus.gpus:
        words = [
            f"{gpu.name}, {show_fraction(gpu.utilization)} busy, "
            f"{_gib(gpu.memory_used)} of {_gib(gpu.memory_total)} GiB",
            f"{'-' if gpu.temperature is None else gpu.temperature} °C",
            f"{'-' if gpu.power_watts is None else f'{gpu.power_watts:.0f}'} W",
        ]
        facts.append((f"GPU {gpu.index}", ", ".join(words)))
    if state.gpus.silence:
        facts.append(("GPUs", state.gpus.silence))
    for disk in state.disks:
        inodes = "" if disk.inodes_free is None else f", {disk.inodes_free:,} inodes free"
        words = disk.silence or f"{_gib(disk.free)} of {_gib(disk.total)} GiB free{inodes}"
        facts.append((f"disk {disk.folder}", words))
    return facts


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**30:.1f}"
