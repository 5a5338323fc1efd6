"""What the ranks of a config compute on: by the config, or by a look at this machine where the ranks start here.

Owns that choice. Nothing is started and no torch is asked, so that a rank's own choice can differ where the driver or
the build of torch is not what it seems.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import psutil

from qad_core.config.devices import GIB, GPUS, Device, find_gpu, named_device
from qad_core.config.schema import ClusterConfig
from qad_core.machine.gpus import GpuState, look_at_gpus

_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""In /proc/cpuinfo, of processors that multiply bfloat16."""


def find_device(cluster: ClusterConfig) -> Device:
    """The device of one rank; its memory is None where neither the config nor this machine tells it."""
    if cluster.device == "cpu":
        return _cpu(cluster)
    gpus = _gpus_here() if cluster.kind == "local" else ()
    if gpus:
        return _gpu_here(gpus)
    named = named_device(cluster)
    if named is not None:
        return named
    if cluster.kind == "local" and cluster.device == "auto":
        return _cpu(cluster)
    return Device("gpu", "GPU of a type that is not known")


def _cpu(cluster: ClusterConfig) -> Device:
    if cluster.kind != "local":
        return Device("cpu", "CPU of a node that is not known")
    share = psutil.virtual_memory().total // cluster.processes_per_node
    return Device("cpu", "CPU of this machine", share, has_bf16=_cpu_has_bf16())


@lru_cache(maxsize=1)
def _gpus_here() -> tuple[GpuState, ...]:
    """Asked once a process: cards do not come and go."""
    return look_at_gpus().gpus


def _gpu_here(gpus: tuple[GpuState, ...]) -> Device:
    known = [(gpu.memory_total, gpu.name) for gpu in gpus if gpu.memory_total is not None]
    if not known:
        return Device("gpu", f"{gpus[0].name} (this machine)")
    memory, name = min(known)
    key = find_gpu(name, memory / GIB)
    return Device("gpu", f"{name} (this machine)", memory, None if key is None else GPUS[key])


@lru_cache(maxsize=1)
def _cpu_has_bf16() -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(words & _BF16_FLAGS)
