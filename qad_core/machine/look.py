"""One look at the whole machine, for `qad_core system` and the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.machine.disks import DiskState, look_at_disk
from qad_core.machine.gpus import GpuAnswer, look_at_gpus
from qad_core.machine.host import HostState, look_at_host


@dataclass(frozen=True)
class MachineState:
    """Everything that is known of this machine at one moment."""

    host: HostState
    gpus: GpuAnswer
    disks: tuple[DiskState, ...]


def look_at_machine(folders: Sequence[Path], *, over_seconds: float | None = None) -> MachineState:
    """The machine, and the file systems of these folders; processors as `look_at_host` measures them."""
    disks = tuple(look_at_disk(folder) for folder in folders)
    return MachineState(look_at_host(over_seconds=over_seconds), look_at_gpus(), disks)


def warnings_of(state: MachineState) -> list[str]:
    """What will stop a run soon, a sentence each."""
    found = [
        f"{disk.folder}: {disk.used_share:.0%} of the disk is full" for disk in state.disks if disk.used_share > 0.95
    ]
    found += [
        f"{disk.folder}: {disk.inodes_used_share:.0%} of the inodes are taken, new files will be refused"
        for disk in state.disks
        if (disk.inodes_used_share or 0) > 0.95
    ]
    host = state.host
    if host.memory_used > 0.95 * host.memory_total:
        found.append(f"{host.memory_used / host.memory_total:.0%} of the memory is in use")
    return found
