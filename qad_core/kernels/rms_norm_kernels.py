"""Triton kernels of RMSNorm: one pass forward, one backward.

Owns the launches; who calls them and the plain version are `rms_norm.py`.
"""

# Triton's functions are typed for its compiler, not for a reader of Python.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qad_core.kernels.device_choice import persistent_programs, rounded_to_nearest

_ELEMENTS = 4096
"""That a program holds of each tensor."""


def normalize(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(RMSNorm of contiguous `x` [n, width], 1 / root mean square [n] float32)."""
    rows, width = x.shape
    out, inverse_rms = torch.empty_like(x), x.new_empty(rows, dtype=torch.float32)
    padded, rows_a_program = _tile(width)
    with rounded_to_nearest(out) as target:
        _normalize_kernel[(triton.cdiv(rows, rows_a_program),)](
            x, weight, target, inverse_rms, rows, eps, WIDTH=width, PADDED=padded, ROWS=rows_a_program
        )
    return out, inverse_rms


def normalize_backward(gradient: Tensor, x: Tensor, weight: Tensor, inverse_rms: Tensor) -> tuple[Tensor, Tensor]:
    """(dx [n, width], dweight [width]) from the contiguous gradient of the output [n, width]."""
    rows, width = x.shape
    padded, rows_a_program = _tile(width)
    tiles = triton.cdiv(rows, rows_a_program)
    programs = persistent_programs(x.device, tiles)
    dx, partial = torch.empty_like(x), x.new_empty(programs, width, dtype=torch.float32)
    with rounded_to_nearest(dx) as target:
        _normalize_backward_kernel[(programs,)](
            gradient, x, weight, inverse_rms, target, partial, rows, tiles,
            WIDTH=width, PADDED=padded, ROWS=rows_a_program,
        )  # fmt: skip
    return dx, partial.sum(0).to(weight.dtype)


def _tile(width: int) -> tuple[int, int]:
    padded = triton.next_power_of_2(width)
    return padded, max(1, _ELEMENTS // padded)


@triton.jit
def _normalize_kernel(
    x, weight, out, inverse_rms, rows, eps, WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
    elements = row[:, None] * WIDTH + column[None, :]
    wide = tl.load(x + elements, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, 1) / WIDTH + eps)
    tl.store(inverse_rms + row, scale, mask=row < rows)
    factors = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    tl.store(out + elements, (wide * scale[:, None] * factors[None, :]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _normalize_backward_kernel(
    gradient,
    x,
    weight,
    inverse_rms,
    dx,
    partial,
    rows,
    tiles,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    column = tl.arange(0, PADDED)
    factors = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    dweight = tl.zeros((ROWS, PADDED), tl.float32)  # summed over rows at the end alone, across warps as it is
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row = tl.full((), 0, tl.int64) + tile * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
        elements = row[:, None] * WIDTH + column[None, :]
        values = tl.load(x + elements, mask=inside, other=0.0).to(tl.float32)
        upstream = tl.load(gradient + elements, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(inverse_rms + row, mask=row < rows, other=0.0)
        normalized = values * scale[:, None]
        dweight += upstream * normalized
        weighted = upstream * factors[None, :]
        projection = tl.sum(weighted * normalized, 1) / WIDTH
        result = (weighted - normalized * projection[:, None]) * scale[:, None]
        tl.store(dx + elements, result.to(dx.dtype.element_ty), mask=inside)
    tl.store(partial + tl.program_id(0) * WIDTH + column, tl.sum(dweight, 0), mask=column < WIDTH)
