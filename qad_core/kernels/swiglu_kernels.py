"""Triton kernels of SwiGLU: one pass forward, one backward, in float32 arithmetic.

Owns the launches; who calls them and the plain version are `swiglu.py`.
"""

# Triton's functions are typed for its compiler, not for a reader of Python.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportIndexIssue=false, reportOptionalMemberAccess=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from qad_core.kernels.device_choice import rounded_to_nearest

_BLOCK = 2048
"""Features that a program takes of one row."""


def activate(gate_and_up: Tensor) -> Tensor:
    """silu(gate) * up [..., f] of contiguous [..., 2 * f]."""
    features = gate_and_up.shape[-1] // 2
    out = gate_and_up.new_empty(*gate_and_up.shape[:-1], features)
    if out.numel():
        with rounded_to_nearest(out) as target:
            _activate_kernel[_grid(out)](gate_and_up, target, features, BLOCK=_block(features))
    return out


def activate_backward(gradient: Tensor, gate_and_up: Tensor) -> Tensor:
    """Gradient [..., 2 * f] from that of the output, both contiguous."""
    features = gradient.shape[-1]
    out = torch.empty_like(gate_and_up)
    if out.numel():
        with rounded_to_nearest(out) as target:
            _activate_backward_kernel[_grid(gradient)](gradient, gate_and_up, target, features, BLOCK=_block(features))
    return out


def _block(features: int) -> int:
    return min(_BLOCK, triton.next_power_of_2(features))


def _grid(out: Tensor) -> tuple[int, int]:
    features = out.shape[-1]
    return out.numel() // features, triton.cdiv(features, _block(features))


@triton.jit
def _activate_kernel(gate_and_up, out, features, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < features
    source = gate_and_up + row * 2 * features + column
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + features, mask=inside, other=0.0).to(tl.float32)
    value = gate * tl.sigmoid(gate) * up
    tl.store(out + row * features + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _activate_backward_kernel(gradient, gate_and_up, out, features, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < features
    at = row * 2 * features + column
    gate = tl.load(gate_and_up + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_and_up + at + features, mask=inside, other=0.0).to(tl.float32)
    upstream = tl.load(gradient + row * features + column, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    dgate = upstream * up * sigmoid * (1.0 + gate * (1.0 - sigmoid))
    tl.store(out + at, dgate.to(out.dtype.element_ty), mask=inside)
    tl.store(out + at + features, (upstream * gate * sigmoid).to(out.dtype.element_ty), mask=inside)
