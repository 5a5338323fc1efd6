"""The short way through megatron-core's linears whose input and weight are quantized.

modelopt puts other functions into megatron-core's modules on each call of a linear, for as long as the call lasts, so
that the product sees quantized tensors; at small batches a GPU waits for that. Owns the same product without the
exchange. Which tensors are quantized, and how, stays with the linear's own quantizers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from torch import Tensor, nn

from qad_core.kernels.nvfp4_backend import weight_cache_of


def shorten_linears(model: nn.Module) -> int:
    """Make every quantized linear of `model` multiply directly, and return how many; after `enable_weight_cache`."""
    shortened = 0
    for module in model.modules():
        kind = next((each for each in (ColumnParallelLinear, RowParallelLinear) if isinstance(module, each)), None)
        if kind is None or weight_cache_of(module) is None:
            continue
        setattr(module, "forward", partial(kind.forward, module))  # noqa: B010 - methods, to a type checker
        setattr(module, "_forward_impl", partial(_multiply_quantized, kind, module))  # noqa: B010
        shortened += 1
    return shortened


def _multiply_quantized(kind: Any, module: Any, input: Tensor, weight: Tensor, **options: Any) -> Tensor:  # noqa: A002
    """What megatron-core's `_forward_impl` answers for the quantized tensors; the names are its own."""
    return kind._forward_impl(module, module.input_quantizer(input), module.weight_quantizer(weight), **options)
