"""GPUs as NVIDIA's management library (NVML) sees them, where the driver is loaded.

Owns the session with NVML. A value that a card or a driver does not tell is None, never 0.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

nvml: Any = importlib.import_module("pynvml")
"""NVIDIA's own bindings; they have no types, and make their error classes as they are loaded."""
_NOT_TOLD = (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_Unknown)


@dataclass(frozen=True)
class GpuState:
    """One GPU at one moment."""

    index: int
    name: str
    memory_used: int | None
    """Bytes in use by anybody."""
    memory_total: int | None
    """Bytes."""
    utilization: float | None
    """Share of the last sample period, up to a second, in which a kernel ran; 0 to 1."""
    temperature: int | None
    """Degrees Celsius."""
    power_watts: float | None
    """Now."""
    power_limit_watts: float | None
    """What it is held to."""
    processes: tuple[int, ...] | None
    """Process ids that compute on it."""


@dataclass(frozen=True)
class GpuAnswer:
    """All GPUs, or why none is known."""

    gpus: tuple[GpuState, ...] = ()
    silence: str = ""
    """Why NVML gave no answer; empty when it did."""


def look_at_gpus() -> GpuAnswer:
    """Ask NVML about every GPU; a machine without its driver answers with the reason."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound:
        return GpuAnswer(silence="no NVIDIA driver on this machine: training here runs on the CPU")
    except nvml.NVMLError as error:
        return GpuAnswer(silence=f"NVML does not answer: {error}")
    try:
        return GpuAnswer(tuple(_look_at(index) for index in range(nvml.nvmlDeviceGetCount())))
    except nvml.NVMLError as error:
        return GpuAnswer(silence=f"NVML stopped answering: {error}")
    finally:
        nvml.nvmlShutdown()


def _look_at(index: int) -> GpuState:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = _told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    utilization = _told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    power = _told(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    limit = _told(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    processes = _told(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return GpuState(
        index=index,
        name=str(nvml.nvmlDeviceGetName(handle)),
        memory_used=None if memory is None else int(memory.used),
        memory_total=None if memory is None else int(memory.total),
        utilization=None if utilization is None else utilization.gpu / 100,
        temperature=_told(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        power_watts=None if power is None else power / 1000,
        power_limit_watts=None if limit is None else limit / 1000,
        processes=None if processes is None else tuple(int(process.pid) for process in processes),
    )


def _told(ask: Callable[[], Any]) -> Any:
    """What NVML answers, or None where this card or driver has no such value."""
    try:
        return ask()
    except _NOT_TOLD:
        return None
