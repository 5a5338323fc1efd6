"""Triton kernel of NVFP4 quantize-dequantize: one read, one write, bit for bit the values of `nvfp4.py`.

Owns the launch and the arithmetic that makes it fast: the quotient by a block's scale is a product with its
reciprocal and one correction, which rounds as a division does (Markstein, "Computation of elementary functions on
the IBM RISC System/6000 processor", 1990) as long as nothing leaves the range of normal numbers. Tensors whose
scale is far from 1 are divided plainly.
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

_BLOCKS_A_PROGRAM = 256
_WARPS = 4
_EXPONENT = tl.constexpr(0x7F800000)
_MAGNITUDE = tl.constexpr(0x7FFFFFFF)
_ONE, _FOUR = tl.constexpr(0x3F800000), tl.constexpr(0x40800000)  # bits of 1.0 and 4.0
_SMALLEST_NORMAL_E4M3, _LARGEST_BINADE_E4M3 = tl.constexpr(0x3C800000), tl.constexpr(0x43800000)  # 2^-6 and 256
_SMALLEST_SAFE, _LARGEST_SAFE = tl.constexpr(2.0**-60), tl.constexpr(2.0**60)
# 1.5 * 2^(23 - mantissa bits), as a step of a float's exponent and mantissa
_TO_E2M1 = tl.constexpr(((23 - 1) << 23) + (1 << 22))
_TO_E4M3 = tl.constexpr(((23 - 3) << 23) + (1 << 22))


def quantize_dequantize(x: Tensor, amax: Tensor, block_amax: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """The NVFP4 value of `x` (contiguous, whole blocks) with one `amax` for all of it, or for each equal part [g].

    `block_amax` (contiguous float32, one for each block) is what the block scales are made from, where it is given.
    """
    out = torch.empty_like(x) if out is None else out
    blocks = x.numel() // 16
    if blocks:
        with rounded_to_nearest(out) as target:
            _kernel[(triton.cdiv(blocks, _BLOCKS_A_PROGRAM),)](
                x,
                target,
                amax,
                block_amax,
                blocks,
                blocks // amax.numel(),
                IS_GROUPED=amax.numel() > 1,
                IS_STATIC=block_amax is not None,
                ON_CUDA=not is_interpreted(),
                BLOCKS=_BLOCKS_A_PROGRAM,
                num_warps=_WARPS,
            )
    return out


@triton.jit
def _kernel(
    source,
    out,
    amax,
    block_amax,
    num_blocks,
    blocks_an_amax,
    IS_GROUPED: tl.constexpr,
    IS_STATIC: tl.constexpr,
    ON_CUDA: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    inside = (block < num_blocks)[:, None]
    elements = block[:, None] * 16 + tl.arange(0, 16)[None, :]
    x = tl.load(source + elements, mask=inside, other=0.0).to(tl.float32)
    if IS_GROUPED:
        tensor_amax = tl.load(amax + block // blocks_an_amax, mask=block < num_blocks, other=0.0).to(tl.float32)
        tensor_scale = _tensor_scale(tensor_amax, ON_CUDA)
        least, most = tl.min(tensor_scale, 0), tl.max(tensor_scale, 0)
    else:
        tensor_scale = _tensor_scale(tl.load(amax).to(tl.float32), ON_CUDA)
        least, most = tensor_scale, tensor_scale
    if IS_STATIC:
        used = tl.load(block_amax + block, mask=block < num_blocks, other=0.0)
    else:
        used = _block_amax(x)
    scale = _block_scale(used, tensor_scale)
    divisor = tl.where(scale == 0.0, float("inf"), scale)
    if ON_CUDA:
        quotient = _quotient(x, divisor, (least > _SMALLEST_SAFE) & (most < _LARGEST_SAFE))
    else:
        quotient = tl.math.div_rn(x, tl.broadcast_to(divisor[:, None], (BLOCKS, 16)))
    exponent = quotient.to(tl.int32, bitcast=True) & _EXPONENT
    shift = (tl.minimum(tl.maximum(exponent, _ONE), _FOUR) + _TO_E2M1).to(tl.float32, bitcast=True)
    rounded = (quotient + shift) - shift
    rounded = tl.minimum(rounded, 6.0, propagate_nan=tl.PropagateNan.ALL)
    rounded = tl.maximum(rounded, -6.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out + elements, (rounded * scale[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _tensor_scale(amax, ON_CUDA: tl.constexpr):
    """amax / 2688, on CUDA by the reciprocal, as torch divides by a constant there."""
    if ON_CUDA:
        scale = amax * (1.0 / 2688.0)
    else:
        scale = tl.math.div_rn(amax, 2688.0)
    return scale


@triton.jit
def _block_amax(x):
    """Largest magnitude of each block."""
    # Magnitudes are ordered as their bits are, a NaN above all.
    return tl.max(x.to(tl.int32, bitcast=True) & _MAGNITUDE, 1).to(tl.float32, bitcast=True)


@triton.jit
def _block_scale(block_amax, tensor_scale):
    """Scale of each block: its E4M3 block scale times the scale of the tensor."""
    scale = tl.math.div_rn(block_amax, 6.0 * tensor_scale)
    scale = tl.maximum(scale, 0.001953125, propagate_nan=tl.PropagateNan.ALL)
    scale = tl.minimum(scale, 448.0, propagate_nan=tl.PropagateNan.ALL)
    exponent = scale.to(tl.int32, bitcast=True) & _EXPONENT
    exponent = tl.minimum(tl.maximum(exponent, _SMALLEST_NORMAL_E4M3), _LARGEST_BINADE_E4M3)
    shift = (exponent + _TO_E4M3).to(tl.float32, bitcast=True)
    return tl.where(tensor_scale == 0.0, 0.0, ((scale + shift) - shift) * tensor_scale)


@triton.jit
def _quotient(x, divisor, is_safe):
    """x / divisor [blocks], rounded as by a division; see the module."""
    divisors = tl.broadcast_to(divisor[:, None], x.shape)
    if is_safe:
        reciprocal = tl.broadcast_to(tl.math.div_rn(1.0, divisor)[:, None], x.shape)
        estimate = x * reciprocal
        remainder = tl.fma(-estimate, divisors, x)
        corrected = tl.fma(remainder, reciprocal, estimate)
        quotient = tl.where(remainder == remainder, corrected, estimate)  # infinities have no remainder
    else:
        quotient = tl.math.div_rn(x, divisors)
    return quotient
