"""Triton kernel that multiplies a tensor by a number on the device, and leaves it alone where that is 1."""

# Triton's functions are typed for its compiler, not for a reader of Python.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 4096


def multiply_(x: Tensor, factor: Tensor) -> Tensor:
    """Contiguous `x` times the 0-dim `factor`, in place, computed in float32."""
    programs = 4 * torch.cuda.get_device_properties(x.device).multi_processor_count
    _multiply_kernel[(programs,)](x, factor, x.numel(), ELEMENTS=_ELEMENTS)
    return x


@triton.jit
def _multiply_kernel(x, factor, num_elements, ELEMENTS: tl.constexpr):
    by = tl.load(factor).to(tl.float32)
    if by != 1.0:
        first = tl.program_id(0).to(tl.int64) * ELEMENTS
        for start in range(first, num_elements, tl.num_programs(0) * ELEMENTS):
            elements = start + tl.arange(0, ELEMENTS)
            inside = elements < num_elements
            values = tl.load(x + elements, mask=inside).to(tl.float32) * by
            tl.store(x + elements, values.to(x.dtype.element_ty), mask=inside)
