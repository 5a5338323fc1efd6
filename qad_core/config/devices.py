"""GPUs that are known by name: their memory and their rates, as the vendor gives them.

Owns the table, and which entry a config or a driver's name means. What this machine has is `run_device.py`'s to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qad_core.config.schema import ClusterConfig

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One model of GPU."""

    memory_gib: float
    """That a program sees."""
    flops: float
    """Dense bf16 matrix products, in floating point operations a second."""
    bytes_per_second: float
    """Of its memory."""
    efficiency: float | None = None
    """Share of `flops` that the arithmetic of a training step reached; None where none was measured."""


MEASURED_ON = "h200"
"""Key of the GPU whose efficiency is taken where none was measured."""
GPUS: Mapping[str, Gpu] = {
    "a100-40gb": Gpu(39.4, 312e12, 1.55e12),
    "a100-80gb": Gpu(79.2, 312e12, 2.04e12),
    # Steps of the Qwen3-1.7B shape at sequence 4,096 and micro-batch 2 or 4 (README, Measured).
    "h100": Gpu(79.1, 989e12, 3.35e12, efficiency=0.53),
    "h200": Gpu(139.8, 989e12, 4.8e12, efficiency=0.54),
    "b200": Gpu(178.0, 2250e12, 8.0e12),
}
"""NVIDIA's data sheets of the SXM modules; memory is some percent less than sold, as drivers report it."""


@dataclass(frozen=True)
class Device:
    """What one rank computes on, as far as it is known."""

    kind: str
    """`gpu` or `cpu`."""
    name: str
    """In words, with where it is known from."""
    memory: int | None = None
    """Bytes that the rank may take; None where not known."""
    gpu: Gpu | None = None
    """Rates, where the GPU is in the table."""
    has_bf16: bool = True
    """Whether `train.precision: auto` means bf16."""

    @property
    def is_gpu(self) -> bool:
        """Whether the fused kernels run."""
        return self.kind == "gpu"


def named_device(cluster: ClusterConfig) -> Device | None:
    """The GPU that `cluster.gpu`, else `cluster.slurm.gpu_type` names; None where that is no known one."""
    if cluster.gpu is not None:
        return _device(cluster.gpu, "cluster.gpu")
    key = find_gpu(cluster.slurm.gpu_type or "") if cluster.kind == "slurm" else None
    return None if key is None else _device(key, "cluster.slurm.gpu_type")


def find_gpu(name: str, memory_gib: float | None = None) -> str | None:
    """Key of the GPU that a driver or SLURM calls `name`; None where it is not in the table.

    One that comes in two sizes is told by its memory or by the size in its name, else taken for the larger.
    """
    plain = name.lower()
    if "a100" in plain:
        is_small = memory_gib < 60 if memory_gib is not None else "40g" in plain
        return "a100-40gb" if is_small else "a100-80gb"
    return next((key for key in ("h100", "h200", "b200") if key in plain and f"g{key}" not in plain), None)


def _device(key: str, source: str) -> Device:
    return Device("gpu", f"{key} ({source})", int(GPUS[key].memory_gib * GIB), GPUS[key])
