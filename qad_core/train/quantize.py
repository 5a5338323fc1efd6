"""Makes a student of a plain model: modelopt's quantizers on all block linears, calibrated.

The numerics are `kernels/nvfp4.py`'s, hooked into modelopt as a backend; what is quantized is said
there too. This module owns the order: convert, max-calibrate over the pipeline, choose block scales
where they are static, verify that no linear was left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable

import modelopt.torch.quantization as mtq
import torch
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from modelopt.torch.quantization.nn import NVFP4StaticQuantizer, TensorQuantizer

from qad_core.config.schema import QuantizationConfig
from qad_core.errors import ModelError
from qad_core.kernels.nvfp4_backend import nvfp4_config, register_nvfp4_backend
from qad_core.models.experts import GroupedLinear
from qad_core.run.calibration import UnseenLayer
from qad_core.train.block_scales import hold_block_scales
from qad_core.train.expert_quantizers import calibrate_experts, observe_experts


def quantize_student(
    model: torch.nn.Module, run_calibration: Callable[[torch.nn.Module], None], quantization: QuantizationConfig
) -> list[UnseenLayer]:
    """Convert `model` in place; `run_calibration` sends sequences through it, on every rank.

    Returns the experts of a mixture that saw none of them, by layer, and the amax that they got instead.
    """
    register_nvfp4_backend()
    with torch.no_grad(), observe_experts(model) as observations:
        mtq.quantize(model, nvfp4_config(activations=quantization.activations), run_calibration)
        unseen = calibrate_experts(model, observations)
    if quantization.weight_scales != "max":
        hold_block_scales(model, quantization.weight_scales)
    verify_quantized(model, activations=quantization.activations)
    return unseen


def verify_quantized(model: torch.nn.Module, *, activations: bool) -> None:
    """Refuse a student with a block linear that is not quantized, or whose amax is not a positive number.

    Raises `ModelError` that names the layers: a checkpoint that silently was not quantized is the
    failure that costs most to find late.
    """
    missing = [name for name, module in _block_linears(model) if not _is_quantized(module, activations=activations)]
    if missing:
        raise ModelError(
            f"{len(missing)} block linears are not quantized: {', '.join(missing[:4])}",
            "calibration saw no or broken values there; check the weights and the calibration data",
        )


def _block_linears(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    linears = (ColumnParallelLinear, RowParallelLinear, GroupedLinear)
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, linears) and "output_layer" not in name and "teacher_model" not in name
    ]


def _is_quantized(module: torch.nn.Module, *, activations: bool) -> bool:
    names = ("weight_quantizer", "input_quantizer") if activations else ("weight_quantizer",)
    quantizers = [getattr(module, name, None) for name in names]
    return all(isinstance(quantizer, TensorQuantizer) and _has_scale(quantizer) for quantizer in quantizers)


def _has_scale(quantizer: TensorQuantizer) -> bool:
    amax = quantizer.amax  # with static scales one for each block, of which a block of zeros has none
    tensor_amax = quantizer.global_amax if isinstance(quantizer, NVFP4StaticQuantizer) else amax
    if not (quantizer.is_enabled and isinstance(amax, torch.Tensor) and isinstance(tensor_amax, torch.Tensor)):
        return False
    return bool(amax.isfinite().all()) and bool((tensor_amax.isfinite() & (tensor_amax > 0)).all())
