"""Which implementation a tensor goes to: Triton on CUDA devices, plain torch elsewhere. The only place that chooses.

Under Triton's interpreter (`TRITON_INTERPRET=1`) tensors on the CPU go through the Triton kernels too; that is how
they are tested where there is no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

_NARROW = (torch.bfloat16, torch.float16, torch.float32)
_PROGRAMS_A_PROCESSOR = 4


def uses_triton(x: Tensor) -> bool:
    """Whether `x` goes through a Triton kernel: on CUDA, or anywhere under the interpreter; never float64."""
    return (x.is_cuda or is_interpreted()) and x.dtype in _NARROW and _is_installed()


def is_interpreted() -> bool:
    """Whether Triton kernels run in its interpreter, one program after another."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def persistent_programs(device: torch.device, tiles: int) -> int:
    """Programs of a kernel that each take many of so many tiles: as many as the device runs at once."""
    at_once = 4 if is_interpreted() else _PROGRAMS_A_PROCESSOR * _processors(device)
    return max(1, min(tiles, at_once))


def multiply_(x: Tensor, factor: Tensor) -> Tensor:
    """`x` times the 0-dim `factor`, in place; a factor of 1 costs nothing, and no device is waited for."""
    if uses_triton(x) and x.is_cuda:
        from qad_core.kernels import scaling  # Triton is there with CUDA builds of torch alone

        return scaling.multiply_(x, factor)
    return x if x.device.type == "cpu" and factor.item() == 1 else x.mul_(factor)


@contextmanager
def rounded_to_nearest(out: Tensor) -> Iterator[Tensor]:
    """What a kernel writes in place of `out`: itself, but under the interpreter, which rounds to bf16 towards zero, a
    float32 tensor that is rounded to `out` afterwards."""
    if not is_interpreted() or out.dtype == torch.float32:
        yield out
    else:
        wide = torch.empty_like(out, dtype=torch.float32)
        yield wide
        out.copy_(wide)


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _is_installed() -> bool:
    return find_spec("triton") is not None
