"""Triton kernels of RMSNorm and of the rotary embedding: one pass each, forward and backward.

Owns the launches; who calls them and the plain versions are `rms_norm.py` and `rope.py`.
"""

# Triton's functions are typed for its compiler, not for a reader of Python.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qad_core.kernels.device_choice import is_interpreted, rounded_to_nearest

_ELEMENTS = 4096
"""That a program holds of each tensor."""
_BACKWARD_PROGRAMS_A_PROCESSOR = 4


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
    programs = max(1, min(tiles, 4 if is_interpreted() else _backward_programs(x.device)))
    dx, partial = torch.empty_like(x), x.new_empty(programs, width, dtype=torch.float32)
    with rounded_to_nearest(dx) as target:
        _normalize_backward_kernel[(programs,)](
            gradient, x, weight, inverse_rms, target, partial, rows, tiles,
            WIDTH=width, PADDED=padded, ROWS=rows_a_program,
        )  # fmt: skip
    return dx, partial.sum(0).to(weight.dtype)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, *, backwards: bool) -> Tensor:
    """Contiguous `x` [s, b, heads, d] turned by the angles of its positions, or back; cosine, sine [s, d / 2]."""
    length, batch, heads, width = x.shape
    out = torch.empty_like(x)
    half = width // 2
    rows_a_program = max(1, _ELEMENTS // triton.next_power_of_2(half))
    rows_a_position = batch * heads
    with rounded_to_nearest(out) as target:
        _rotate_kernel[(triton.cdiv(length * rows_a_position, rows_a_program),)](
            x,
            cosine,
            sine,
            target,
            length * rows_a_position,
            rows_a_position,
            HALF=half,
            PADDED=triton.next_power_of_2(half),
            ROWS=rows_a_program,
            BACKWARDS=backwards,
        )
    return out


def _tile(width: int) -> tuple[int, int]:
    padded = triton.next_power_of_2(width)
    return padded, max(1, _ELEMENTS // padded)


def _backward_programs(device: torch.device) -> int:
    return _BACKWARD_PROGRAMS_A_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


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
    dweight = tl.zeros((PADDED,), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row = tl.full((), 0, tl.int64) + tile * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
        elements = row[:, None] * WIDTH + column[None, :]
        values = tl.load(x + elements, mask=inside, other=0.0).to(tl.float32)
        upstream = tl.load(gradient + elements, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(inverse_rms + row, mask=row < rows, other=0.0)
        normalized = values * scale[:, None]
        dweight += tl.sum(upstream * normalized, 0)
        weighted = upstream * factors[None, :]
        projection = tl.sum(weighted * normalized, 1) / WIDTH
        result = (weighted - normalized * projection[:, None]) * scale[:, None]
        tl.store(dx + elements, result.to(dx.dtype.element_ty), mask=inside)
    tl.store(partial + tl.program_id(0) * WIDTH + column, dweight, mask=column < WIDTH)


@triton.jit
def _rotate_kernel(
    x,
    cosine,
    sine,
    out,
    rows,
    rows_a_position,
    HALF: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    BACKWARDS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row < rows)[:, None] & (column < HALF)[None, :]
    angles = (row // rows_a_position)[:, None] * HALF + column[None, :]
    c = tl.load(cosine + angles, mask=inside, other=0.0).to(tl.float32)
    s = tl.load(sine + angles, mask=inside, other=0.0).to(tl.float32)
    if BACKWARDS:
        s = -s
    first = row[:, None] * (2 * HALF) + column[None, :]
    a = tl.load(x + first, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + first + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + first, (a * c - b * s).to(out.dtype.element_ty), mask=inside)
    tl.store(out + first + HALF, (b * c + a * s).to(out.dtype.element_ty), mask=inside)
