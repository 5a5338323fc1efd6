"""What the ranks of a config compute on: by the config, or by a look at this machine where the ranks start here.

Owns that choice. Nothing is started and no torch is asked, so that a rank's own choice can differ where the driver or
the build of torch is not what it seems.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
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
    named = named_device(cluster)
    gpus = visible_gpus(_gpus_here(), os.environ) if cluster.kind == "local" and cluster.gpu is None else ()
    if gpus:
        return _gpu_here(gpus, cluster.processes_per_node)
    if named is not None:
        return named
    if cluster.kind == "local" and cluster.device == "auto":
        return _cpu(cluster)
    return Device("gpu", "GPU of a type that is not known")


def _cpu(cluster: ClusterConfig) -> Device:
    if cluster.kind != "local":
        return Device("cpu", "CPU of a node that is not known")
    share = min(psutil.virtual_memory().total, _memory_limit()) // cluster.processes_per_node
    return Device("cpu", "CPU of this machine", share, has_bf16=_cpu_has_bf16())


@lru_cache(maxsize=1)
def _gpus_here() -> tuple[GpuState, ...]:
    """Asked once a process: cards do not come and go."""
    return look_at_gpus().gpus


def visible_gpus(gpus: Sequence[GpuState], environ: Mapping[str, str]) -> tuple[GpuState, ...]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, where it names them by number."""
    numbers = environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        return tuple(gpus)
    return tuple(gpu for gpu in gpus if gpu.index in {int(number) for number in numbers})


def _gpu_here(gpus: Sequence[GpuState], ranks: int) -> Device:
    """The smallest of as many of the largest cards as there are ranks: a small one may be for the display alone."""
    known = sorted(((gpu.memory_total, gpu.name) for gpu in gpus if gpu.memory_total is not None), reverse=True)
    if not known:
        return Device("gpu", f"{gpus[0].name} (this machine)")
    memory, name = known[:ranks][-1]
    key = find_gpu(name, memory / GIB)
    return Device("gpu", f"{name} (this machine)", memory, None if key is None else GPUS[key])


def _memory_limit() -> float:
    """Bytes that this process's control group may use, as a container or a SLURM step limits it; infinite if none."""
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition(":")[2]
        return int(Path("/sys/fs/cgroup", group.lstrip("/"), "memory.max").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no version 2 of control groups, or `max`
        return math.inf


@lru_cache(maxsize=1)
def _cpu_has_bf16() -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(words & _BF16_FLAGS)
