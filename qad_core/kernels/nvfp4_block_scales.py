"""Static block scales for NVFP4 weights: which magnitude each block's scale is made for, to the least squared error.

Max calibration maps the largest magnitude of a block to 6, E2M1's largest value. `mse` sweeps all positive E4M3 scales
(modelopt's `NVFP4MSECalibrator`, its `fp8_scale_sweep`); `four_over_six` takes the better of mapping the largest
magnitude to 6 or to 4 (Four Over Six, arXiv 2512.02010). Neither is ever worse than max in any block.
Owns the choice only, in plain torch, since it is made once a run; `nvfp4.py` quantizes by it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qad_core.kernels.nvfp4 import (
    BLOCK_SIZE,
    E2M1_MAX,
    E4M3_MAX,
    E4M3_SMALLEST,
    check_quantizable,
    round_to_scale_,
    scale_of_tensor,
)

_TILE_CPU, _TILE_GPU = 2**18, 2**26  # elements searched at once
_LARGEST_CODE = 126  # of a finite positive E4M3 number; codes are in the order of the numbers
_CODES_AN_OCTAVE = 8
_LAST_ODD_MULTIPLE = 15
"""Code of the last E4M3 number that is an odd multiple of the smallest one, so that E4M3 lacks its half."""


def mse_block_amax(x: Tensor, amax: Tensor) -> Tensor:
    """The amax of each block whose scale quantizes the block with the least squared error of all E4M3 scales.

    Args:
        x: [..., K] float32, bfloat16 or float16, K a multiple of 16.
        amax: one element, the largest magnitude of the tensor, or one for each equal part of the first axis.

    Returns:
        [..., K / 16] float32, for `nvfp4_quantize_dequantize`: six times the scale, so that it rounds to that scale
        again. Of scales with equal errors, max calibration's is taken. Where amax is 0, so are they.

    Raises ModelError when `x` cannot be quantized.
    """
    return _by_tiles(x, amax, _sweep)


def four_over_six_block_amax(x: Tensor, amax: Tensor) -> Tensor:
    """The amax of each block whose scale maps the largest magnitude to 6 or to 4, by the smaller squared error.

    Arguments, result and errors are those of `mse_block_amax`. The paper and modelopt make the scale of the tensor
    from 256 instead of 448, so that every block has room for 4; here it stays max calibration's, so that no block is
    worse than there. Blocks within a third of the tensor's amax then have 448 as their other scale.
    """
    return _by_tiles(x, amax, _choose_four_or_six)


def _by_tiles(x: Tensor, amax: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    check_quantizable(x)
    tile = _TILE_CPU if x.device.type == "cpu" else _TILE_GPU
    found: list[Tensor] = []
    for part, part_amax in zip(x.detach().chunk(amax.numel()), amax.view(-1), strict=True):
        tensor_scale = scale_of_tensor(part_amax)
        unit = _power_of_two_near(tensor_scale)
        for blocks in part.reshape(-1).split(tile):
            scale = choose(blocks.float().view(-1, BLOCK_SIZE) / unit, tensor_scale / unit)
            found.append(torch.where(tensor_scale == 0, 0.0, scale * tensor_scale * E2M1_MAX))
    return torch.cat(found).view(*x.shape[:-1], -1)


def _power_of_two_near(tensor_scale: Tensor) -> Tensor:
    """Divides without rounding; in this unit no squared error of a block leaves the range of float32."""
    exponent = torch.frexp(tensor_scale).exponent.clamp(-100, 100)
    return torch.ldexp(torch.ones_like(tensor_scale), exponent)


class _Best:
    """The best E4M3 scale of each block so far, and its squared error; max calibration's scale at the start."""

    def __init__(self, blocks: Tensor, tensor_scale: Tensor) -> None:
        self.blocks, self.tensor_scale = blocks, tensor_scale
        self.block_amax = blocks.abs().amax(-1)
        self.scale = self.mapped_to(E2M1_MAX)
        self.error = self.error_of(self.scale)

    def mapped_to(self, value: float) -> Tensor:
        """E4M3 scale [n] that maps each block's amax to `value` in E2M1."""
        scale = (self.block_amax / (value * self.tensor_scale)).clamp(E4M3_SMALLEST, E4M3_MAX)
        return scale.to(torch.float8_e4m3fn).float()

    def error_of(self, scale: Tensor) -> Tensor:
        """Squared error [n] of each block under the E4M3 `scale` [n]."""
        values = self.blocks.clone()
        round_to_scale_(values, torch.empty_like(values, dtype=torch.int32), (scale * self.tensor_scale)[:, None])
        return values.sub_(self.blocks).square_().sum(-1)

    def offer(self, scale: Tensor) -> None:
        """Take `scale` [n] where its error is smaller."""
        error = self.error_of(scale)
        is_better = error < self.error
        self.error = torch.where(is_better, error, self.error)
        self.scale = torch.where(is_better, scale, self.scale)


def _choose_four_or_six(blocks: Tensor, tensor_scale: Tensor) -> Tensor:
    best = _Best(blocks, tensor_scale)
    best.offer(best.mapped_to(4.0))
    return best.scale


def _sweep(blocks: Tensor, tensor_scale: Tensor) -> Tensor:
    """Best E4M3 scale [n] of each block; tries the few of the 126 that can be it.

    Start from the smallest scale that nothing saturates under. Its double, and what is beyond, cannot be better:
    halving a scale keeps all its E2M1 values below the largest magnitude. Only odd multiples of the smallest scale
    have no half. Downwards, the largest magnitude saturates, by itself an error that ends the search.
    """
    best = _Best(blocks, tensor_scale)
    table = torch.arange(_LARGEST_CODE + 1, dtype=torch.uint8, device=blocks.device).view(torch.float8_e4m3fn).float()
    unsaturated = torch.searchsorted(table, best.block_amax / (E2M1_MAX * tensor_scale)).clamp(1, _LARGEST_CODE)
    last = (unsaturated + _CODES_AN_OCTAVE - 1).clamp(_LAST_ODD_MULTIPLE, _LARGEST_CODE)
    for step in range(_LAST_ODD_MULTIPLE):
        if step >= _CODES_AN_OCTAVE and not (unsaturated + step <= last).any():
            break
        best.offer(table[torch.minimum(unsaturated + step, last)])
    for step in range(1, _LARGEST_CODE):
        scale = table[(unsaturated - step).clamp(min=1)]
        excess = best.block_amax - E2M1_MAX * scale * tensor_scale
        if not ((excess.square() < best.error) & (step < unsaturated)).any():
            break
        best.offer(scale)
    return best.scale
