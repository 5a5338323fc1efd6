"""Static block scales of the student's weights: chosen after max calibration, held, saved, resharded.

They are held over the run, as a serving checkpoint holds them: an element that outgrows its block's scale saturates,
and its gradient goes on straight through. At QAD's learning rates (1e-6) weights move by far less than the 6 % between
two E4M3 scales, so that a new search would choose almost the same; one a step would cost several times the
quantization itself. What is chosen is `kernels/nvfp4_block_scales.py`'s.

The state is that of modelopt's `NVFP4StaticQuantizer` (`_amax` for each block, `_global_amax` for the tensor), which
its export understands. modelopt itself makes none under tensor parallelism, because it would save a gated linear's
scales unsplit and restore them in the shape of the ranks that saved. Both are mended here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from megatron.core.transformer.mlp import MLP
from modelopt.torch.quantization.nn import NVFP4StaticQuantizer, TensorQuantizer
from torch import Tensor

from qad_core.kernels.nvfp4 import BLOCK_SIZE
from qad_core.kernels.nvfp4_backend import BACKEND_NAME
from qad_core.kernels.nvfp4_block_scales import four_over_six_block_amax, mse_block_amax

_SEARCHES = {"mse": mse_block_amax, "four_over_six": four_over_six_block_amax}
_GATED_BLOCK_AMAX = r".*linear_fc1\.weight_quantizer\._amax$"


def hold_block_scales(student: torch.nn.Module, weight_scales: Literal["mse", "four_over_six"]) -> None:
    """Give each quantized weight static block scales, found for the weight as it is.

    Call once after max calibration, which has made the amax of a tensor, or of each of its stacked experts, the same
    on all ranks. Blocks lie whole on a rank, so that every layout finds the same scales. Forward passes need
    `enable_weight_cache` afterwards.
    """
    for weight, quantizer in _quantized_weights(student):
        tensor_amax = _tensor_amax(weight, quantizer)
        _make_static(quantizer, tensor_amax, _SEARCHES[weight_scales](weight, tensor_amax))
    fit_block_scales(student)


def make_room_for_block_scales(student: torch.nn.Module) -> None:
    """Give each quantized weight static block scales of zero, in whose `_amax` saved ones are to be put."""
    for weight, quantizer in _quantized_weights(student):
        room = torch.zeros(_block_amax_shape(weight), dtype=torch.float32, device=weight.device)
        _make_static(quantizer, _tensor_amax(weight, quantizer), room)
    fit_block_scales(student)


def fit_block_scales(student: torch.nn.Module) -> None:
    """Make static quantizers fit the weights of this rank, and their shards those of the weights.

    Restored quantizers have the shape of the ranks that saved them; their values are loaded afterwards. Without static
    quantizers this does nothing.
    """
    for weight, quantizer in _quantized_weights(student):
        if isinstance(quantizer, NVFP4StaticQuantizer):
            _fit(quantizer, "_amax", _block_amax_shape(weight), weight.device)
            _fit(quantizer, "_global_amax", _tensor_amax_shape(weight), weight.device)
            quantizer._setup_for_blockquant(weight)
    for module in student.modules():
        if isinstance(module, MLP):
            mlp: Any = module
            if isinstance(getattr(mlp.linear_fc1, "weight_quantizer", None), NVFP4StaticQuantizer):
                # modelopt splits into gate and up what its patterns name, but they miss the prefix of a layer.
                mlp._modelopt_state_keys = [_GATED_BLOCK_AMAX]


def _make_static(quantizer: Any, tensor_amax: Tensor, block_amax: Tensor) -> None:
    del quantizer._amax  # another shape
    quantizer.block_sizes = {**quantizer.block_sizes, "type": "static"}
    quantizer.amax = block_amax
    NVFP4StaticQuantizer.from_tensor_quantizer(quantizer, tensor_amax)


def _tensor_amax(weight: Tensor, quantizer: Any) -> Tensor:
    return quantizer._amax.detach().float().reshape(_tensor_amax_shape(weight))


def _quantized_weights(student: torch.nn.Module) -> Iterator[tuple[Tensor, Any]]:
    """Weights with their quantizers, which know attributes that no checker sees."""
    for module in student.modules():
        quantizer = getattr(module, "weight_quantizer", None)
        if isinstance(quantizer, TensorQuantizer) and quantizer.is_enabled and quantizer.backend == BACKEND_NAME:
            layer: Any = module
            yield layer.weight, quantizer


def _block_amax_shape(weight: Tensor) -> tuple[int, ...]:
    return (*weight.shape[:-1], weight.shape[-1] // BLOCK_SIZE)


def _tensor_amax_shape(weight: Tensor) -> tuple[int, ...]:
    """One for a linear's weight; one for each of the experts stacked along the first axis."""
    return weight.shape[:1] if weight.ndim > 2 else ()


def _fit(quantizer: Any, name: str, shape: tuple[int, ...], device: torch.device) -> None:
    held = getattr(quantizer, name)
    if held.shape != shape or held.device != device:  # modelopt restores buffers on the CPU
        setattr(quantizer, name, torch.empty(shape, dtype=torch.float32, device=device))
