"""NVFP4 quantize-dequantize: the values that an NVFP4 tensor would have; plain torch here, Triton where it runs.

The format (NVIDIA's NVFP4; numerics of modelopt's `NVFP4QTensor`, bit for bit): blocks of 16 along the last
axis; each element is E2M1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives) times a block scale in E4M3 times
one float32 scale of the tensor, amax / (6 * 448). All rounding is to nearest, ties to even.
A block scale is made from the block's own amax, or from a given one: `nvfp4_block_scales.py` chooses those.
Owns the numerics only: what is quantized when, and the gradient, are `nvfp4_backend.py`'s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qad_core.errors import ModelError
from qad_core.kernels.device_choice import uses_triton

BLOCK_SIZE = 16
E2M1_MAX = 6.0
E4M3_MAX = 448.0
E4M3_SMALLEST = 2.0**-9
_E4M3_SMALLEST_NORMAL = 2.0**-6

# Elements that one sweep of passes takes: on CPUs its float32 and int32 copies stay in the last-level cache.
_TILE_CPU = 2**20
_FLOAT32_EXPONENT = 0x7F800000
_FLOAT32_MAGNITUDE = 0x7FFFFFFF


def nvfp4_quantize_dequantize(
    x: Tensor, amax: Tensor, block_amax: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """The NVFP4 value of every element of `x`.

    Args:
        x: [..., K] float32, bfloat16 or float16, K a multiple of 16; any strides.
        amax: one element, the magnitude that the tensor's scale is made for, or one for each of the equal parts that
            the first axis of `x` falls into, as stacked expert weights do. Larger elements saturate; amax 0 gives 0.
        block_amax: float32, one for each block of 16 in row-major order, in any shape: the magnitude that the
            block's static scale is made for, and saturates at. None takes each block's own (a dynamic scale).
        out: what to write to, in the shape and type of `x`, contiguous; None makes a new tensor.

    Returns:
        [..., K] in the type of `x`, contiguous, without gradient. A block whose scale is too small for E4M3 takes the
        smallest E4M3 scale. A NaN makes its whole block NaN; under a static scale, itself alone.

    Raises ModelError when K is not a multiple of 16, the type is another, the parts are not equal, or `block_amax`
    is not one for each block.
    """
    check_quantizable(x)
    if block_amax is not None and block_amax.numel() * BLOCK_SIZE != x.numel():
        raise ModelError(
            f"{block_amax.numel()} block scales do not fit a tensor of shape {tuple(x.shape)}",
            f"Give one for each {BLOCK_SIZE} elements along the last axis.",
        )
    if amax.numel() > 1 and x.shape[0] % amax.numel():
        raise ModelError(
            f"{amax.numel()} amax values do not divide a tensor of shape {tuple(x.shape)} into equal parts",
            "Give one amax, or one for each part of the first axis.",
        )
    if uses_triton(x):
        from qad_core.kernels import nvfp4_triton  # Triton is there with CUDA builds of torch alone

        static = None if block_amax is None else block_amax.detach().contiguous()
        return nvfp4_triton.quantize_dequantize(x.detach().contiguous(), amax, static, out)
    value = _in_torch(x, amax, block_amax)
    return value if out is None else out.copy_(value)


def _in_torch(x: Tensor, amax: Tensor, block_amax: Tensor | None) -> Tensor:
    if amax.numel() > 1:
        parts = amax.numel()
        static_parts = [None] * parts if block_amax is None else block_amax.reshape(-1).chunk(parts)
        return torch.cat([_by_tiles(*part) for part in zip(x.chunk(parts), amax.view(-1), static_parts, strict=True)])
    return _by_tiles(x, amax, block_amax)


def _by_tiles(x: Tensor, amax: Tensor, block_amax: Tensor | None) -> Tensor:
    flat = x.detach().contiguous().view(-1)
    static = None if block_amax is None else block_amax.detach().reshape(-1, 1)
    out = torch.empty_like(flat)
    tensor_scale = scale_of_tensor(amax)
    tile = _TILE_CPU if x.device.type == "cpu" else max(flat.numel(), 1)
    scratch = flat.new_empty(2, min(tile, flat.numel()), dtype=torch.float32)
    for start in range(0, flat.numel(), tile):
        source = flat[start : start + tile]
        values, work = scratch[:, : source.numel()]
        values.copy_(source)
        blocks, integers = values.view(-1, BLOCK_SIZE), work.view(torch.int32).view(-1, BLOCK_SIZE)
        first = start // BLOCK_SIZE
        used = _block_amax(blocks, integers) if static is None else static[first : first + blocks.shape[0]].clone()
        round_to_scale_(blocks, integers, _block_scales_(used, tensor_scale))
        out[start : start + tile].copy_(values)
    return out.view(x.shape)


def nvfp4_reference(x: Tensor, amax: Tensor, block_amax: Tensor | None = None) -> Tensor:
    """`nvfp4_quantize_dequantize` as one reads it in the format's definition, with a table and float8 casts."""
    check_quantizable(x)
    tensor_scale = scale_of_tensor(amax)
    blocks = x.detach().float().reshape(-1, BLOCK_SIZE)
    used = blocks.abs().amax(-1, keepdim=True) if block_amax is None else block_amax.detach().reshape(-1, 1)
    block_scale = used / (E2M1_MAX * tensor_scale)
    block_scale = block_scale.clamp(E4M3_SMALLEST, E4M3_MAX).to(torch.float8_e4m3fn).float()
    scale = torch.where(tensor_scale > 0, block_scale * tensor_scale, 0.0)
    scaled = blocks.abs() / torch.where(scale == 0, torch.inf, scale)
    grid = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], device=x.device)
    midpoints = (grid[1:] + grid[:-1]) / 2
    below = torch.bucketize(scaled, midpoints)  # a tie goes to the lower neighbour
    above = torch.bucketize(scaled, midpoints, right=True)  # a tie goes to the upper neighbour
    magnitude = grid[torch.where(below % 2 == 0, below, above)]  # entries of even number have an even mantissa
    magnitude = torch.where(scaled.isnan(), torch.nan, magnitude)
    return (magnitude * blocks.sign().where(magnitude > 0, 1.0) * scale).reshape(x.shape).to(x.dtype)


def check_quantizable(x: Tensor) -> None:
    """Raise ModelError unless `x` has a type that NVFP4 is made from and whole blocks along its last axis."""
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ModelError(
            f"a tensor of type {x.dtype} cannot be quantized to NVFP4",
            "Use bfloat16, float16 or float32 weights and activations.",
        )
    if x.ndim == 0 or x.shape[-1] % BLOCK_SIZE != 0:
        raise ModelError(
            f"a tensor of shape {tuple(x.shape)} cannot be quantized to NVFP4: "
            f"its last axis is not a multiple of {BLOCK_SIZE}",
            "Choose a tensor-parallel size that leaves each shard's width a multiple of 16, "
            "or leave this layer out of the quantization.",
        )


def scale_of_tensor(amax: Tensor) -> Tensor:
    """0-dim float32 scale of the tensor, by the same division as modelopt's.

    On CUDA torch divides by a constant through its reciprocal, so that the last bit can differ from a CPU's.
    """
    return amax.detach().reshape(()).float() / (E2M1_MAX * E4M3_MAX)


def round_to_scale_(blocks: Tensor, work: Tensor, scale: Tensor) -> None:
    """Replace `blocks` [n, 16] float32 by the nearest E2M1 values times `scale` [n, 1]; `work` [n, 16] int32 is
    scratch."""
    # A scale of 0 (amax 0, or so small that the product underflows) means that every element is 0.
    blocks.div_(scale.masked_fill(scale == 0, torch.inf))
    _round_mantissa_(blocks, work, mantissa_bits=1, smallest_normal=1.0, largest_binade=4.0)
    blocks.clamp_(-E2M1_MAX, E2M1_MAX).mul_(scale)


def _block_amax(blocks: Tensor, work: Tensor) -> Tensor:
    """Largest magnitude [n, 1] of each block [n, 16] float32; `work` [n, 16] int32 is scratch."""
    # Magnitudes of float32 are ordered as their bits are, and the maximum of integers is the faster reduction here.
    torch.bitwise_and(blocks.view(torch.int32), _FLOAT32_MAGNITUDE, out=work)
    return work.amax(-1, keepdim=True).view(torch.float32)


def _block_scales_(block_amax: Tensor, tensor_scale: Tensor) -> Tensor:
    """Scale [n, 1] float32 of each block: its E4M3 block scale times the scale of the tensor; spends `block_amax`."""
    scale = block_amax.div_(E2M1_MAX * tensor_scale).clamp_(E4M3_SMALLEST, E4M3_MAX)
    _round_mantissa_(
        scale,
        torch.empty_like(scale, dtype=torch.int32),
        mantissa_bits=3,
        smallest_normal=_E4M3_SMALLEST_NORMAL,
        largest_binade=256.0,
    )
    # 0 / 0 of an all-zero tensor is NaN, which no clamp removes.
    return torch.where(tensor_scale == 0, 0.0, scale * tensor_scale)


def _round_mantissa_(
    x: Tensor, work: Tensor, *, mantissa_bits: int, smallest_normal: float, largest_binade: float
) -> None:
    """Round float32 `x` in place, to nearest even, to a float format of few mantissa bits with subnormals.

    Adding and taking away 1.5 * 2^(23 - mantissa_bits) times the power of two below |x| makes the float32 addition
    round to the format's step there. Below `smallest_normal` and above `largest_binade` the step stays theirs.
    `work` is int32 scratch of the same shape.
    """
    torch.bitwise_and(x.view(torch.int32), _FLOAT32_EXPONENT, out=work)
    work.clamp_(_bits_of(smallest_normal), _bits_of(largest_binade))
    work.add_(((23 - mantissa_bits) << 23) + (1 << 22))
    shift = work.view(torch.float32)
    x.add_(shift).sub_(shift)


def _bits_of(value: float) -> int:
    """The bits of `value` as a float32."""
    return int(torch.tensor(value, dtype=torch.float32).view(torch.int32).item())
