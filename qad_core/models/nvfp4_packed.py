"""NVFP4 as it lies in a checkpoint's files, read back in plain torch: packed weights, and inputs by an exported scale.

Owns a second, slow reading of the format that shares no code with `kernels/nvfp4.py` or modelopt, so that an export
can be held against it. Two elements a byte, the first in the low four bits: a sign and E2M1's number; a block of 16
along the last axis has an E4M3 scale, the tensor a float32 one.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_SIZE = 16
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E4M3_SMALLEST, _E4M3_LARGEST = 2.0**-9, 448.0


def dequantize(packed: Tensor, block_scales: Tensor, tensor_scale: Tensor) -> Tensor:
    """Values of a packed weight, float32.

    packed [..., K / 2] uint8, block_scales [..., K / 16] float8_e4m3fn, tensor_scale one float32. Returns [..., K].
    """
    codes = torch.stack([packed & 0x0F, packed >> 4], dim=-1).flatten(-2)  # [..., K]
    table = torch.tensor([*_E2M1, *(-value for value in _E2M1)], device=packed.device)
    scales = block_scales.float() * tensor_scale.float()
    return (table[codes.int()].unflatten(-1, (-1, BLOCK_SIZE)) * scales.unsqueeze(-1)).flatten(-2)


def quantize_inputs(x: Tensor, tensor_scale: Tensor) -> Tensor:
    """What an inference engine makes of inputs `x` [..., K] float32: E2M1 by each block's own E4M3 scale.

    tensor_scale is one float32, a linear's exported `input_scale`. Returns the values, float32.
    """
    blocks = x.unflatten(-1, (-1, BLOCK_SIZE))
    scales = blocks.abs().amax(-1, keepdim=True) / (6.0 * tensor_scale)
    scales = scales.clamp(_E4M3_SMALLEST, _E4M3_LARGEST).to(torch.float8_e4m3fn).float() * tensor_scale
    return (_round_to_e2m1(blocks / scales) * scales).flatten(-2)


def _round_to_e2m1(x: Tensor) -> Tensor:
    """Nearest of E2M1's numbers, ties to the one of even mantissa, saturating at 6."""
    table = torch.tensor(_E2M1, device=x.device)
    middles = (table[1:] + table[:-1]) / 2
    magnitude = x.abs()
    lower, upper = torch.bucketize(magnitude, middles), torch.bucketize(magnitude, middles, right=True)
    return table[torch.where(lower % 2 == 0, lower, upper)] * x.sign()
