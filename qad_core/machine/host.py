"""Processors, memory and load of this machine, as psutil has them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class HostState:
    """The machine at one moment."""

    name: str
    cores: int
    """Cores that this process may use."""
    core_shares: tuple[float, ...]
    """Share of each of the machine's cores in use since the last look, 0 to 1; 0 at the first look."""
    load: tuple[float, float, float]
    """Processes that run or wait to run, averaged over 1, 5 and 15 minutes."""
    memory_used: int
    """Bytes that are not available."""
    memory_total: int
    """Bytes."""
    swap_used: int
    """Bytes."""
    swap_total: int
    """Bytes."""

    @property
    def cpu_share(self) -> float:
        """Mean over the cores, 0 to 1."""
        return sum(self.core_shares) / len(self.core_shares) if self.core_shares else 0.0


def look_at_host(*, over_seconds: float | None = None) -> HostState:
    """The machine now; cores measured since the last call, or over so many seconds of waiting."""
    shares: list[float] = psutil.cpu_percent(interval=over_seconds, percpu=True)
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return HostState(
        name=socket.gethostname(),
        cores=len(os.sched_getaffinity(0)),
        core_shares=tuple(share / 100 for share in shares),
        load=os.getloadavg(),
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        swap_used=swap.used,
        swap_total=swap.total,
    )
