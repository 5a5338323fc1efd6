"""Makes a student of a plain model: modelopt's quantizers on all block linears, max-calibrated.

The numerics are `kernels/nvfp4.py`'s, hooked into modelopt as a backend; what is quantized is said
there too. This module owns the order: convert, calibrate over the pipeline, verify that no linear
was left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable

import modelopt.torch.quantization as mtq
import torch
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from modelopt.torch.quantization.nn import TensorQuantizer

from qad_core.errors import ModelError
from qad_core.kernels.nvfp4_backend import nvfp4_config, register_nvfp4_backend


def quantize_student(
    model: torch.nn.Module, run_calibration: Callable[[torch.nn.Module], None], *, activations: bool
) -> None:
    """Convert `model` in place; `run_calibration` sends sequences through it, on every rank."""
    register_nvfp4_backend()
    with torch.no_grad():
        mtq.quantize(model, nvfp4_config(activations=activations), run_calibration)
    verify_quantized(model, activations=activations)


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
    linears = (ColumnParallelLinear, RowParallelLinear)
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, linears) and "output_layer" not in name
    ]


def _is_quantized(module: torch.nn.Module, *, activations: bool) -> bool:
    names = ("weight_quantizer", "input_quantizer") if activations else ("weight_quantizer",)
    quantizers = [getattr(module, name, None) for name in names]
    return all(isinstance(quantizer, TensorQuantizer) and _has_scale(quantizer) for quantizer in quantizers)


def _has_scale(quantizer: TensorQuantizer) -> bool:
    amax = quantizer.amax
    return quantizer.is_enabled and isinstance(amax, torch.Tensor) and bool((amax.isfinite() & (amax > 0)).all())
