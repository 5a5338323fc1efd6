"""NVFP4 as a backend of modelopt's quantizers, with a cache of quantized weights.

Owns the hook (which amax, straight-through gradient), the quantization config that names it, the short way from a
calibrated quantizer to it, and the cache that quantizes a weight once an optimizer step instead of once a micro-batch.
The numerics are `nvfp4.py`'s; calibration, quantizer state and export are modelopt's.
"""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # modelopt warns of optional packages at import
    from modelopt.torch.quantization.config import NVFP4_DEFAULT_CFG
    from modelopt.torch.quantization.nn import TensorQuantizer
    from modelopt.torch.quantization.nn.modules.tensor_quantizer import (
        is_registered_quant_backend,
        register_quant_backend,
    )

from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize

BACKEND_NAME = "qad_nvfp4"
_CACHE_SLOT = "_quantizer_cache"


def register_nvfp4_backend() -> str:
    """Make `BACKEND_NAME` known to modelopt, once; return it. Needed before a quantized model's first forward pass."""
    if not is_registered_quant_backend(BACKEND_NAME):
        register_quant_backend(BACKEND_NAME, _fake_quantize)
    return BACKEND_NAME


def nvfp4_config(*, activations: bool = True) -> dict[str, Any]:
    """A config for `mtq.quantize`: modelopt's NVFP4 with max calibration, through our backend.

    Weights and, with `activations`, inputs (W4A4, else W4A16) of all linear layers but the output layer,
    routers and embeddings.
    """
    config = copy.deepcopy(NVFP4_DEFAULT_CFG)
    for entry in config["quant_cfg"]:
        if "cfg" in entry:
            entry["cfg"]["backend"] = BACKEND_NAME
    config["quant_cfg"].append({"quantizer_name": "*embedding*", "enable": False})
    if not activations:
        config["quant_cfg"].append({"quantizer_name": "*input_quantizer", "enable": False})
    return config


class WeightCache:
    """The last quantized value of one quantizer's weight, until it is invalidated.

    The next value of the same weight is written to the same place in memory, where recorded graphs read it. Parameters
    are written behind autograd's back (the distributed optimizer writes through `.data`), so nothing here can notice a
    new value: whoever changes weights calls `invalidate_weight_cache`.
    """

    def __init__(self) -> None:
        self.adds_to_main_grad = False
        """Whether the product that takes the weight adds its gradient to `main_grad` (`train/weight_gradients.py`)."""
        self._value: Tensor | None = None
        self._key: tuple[int, torch.Size, torch.dtype] | None = None
        self._is_valid = False

    def quantize(self, weight: Tensor, quantizer: TensorQuantizer) -> Tensor:
        """The NVFP4 value of `weight`, detached; made anew after `invalidate` or for another tensor."""
        key = (weight.data_ptr(), weight.shape, weight.dtype)
        if self._value is None or key != self._key:
            self._value, self._key = _quantize(weight, quantizer), key
        elif not self._is_valid:
            _quantize(weight, quantizer, out=self._value)
        self._is_valid = True
        return self._value

    def invalidate(self) -> None:
        """Forget the value, because the weight has changed."""
        self._is_valid = False


def enable_weight_cache(model: nn.Module) -> int:
    """Give every enabled NVFP4 weight quantizer in `model` a cache, and return how many.

    All enabled NVFP4 quantizers also take the short way from here on: modelopt's own forward pass asks a calibrated
    quantizer on every call what it is, which at small batches costs more than the kernel; a static one does not ask
    its backend at all. Call after `mtq.quantize` or after modelopt has restored its quantizers.
    """
    caches = 0
    for name, module in model.named_modules():
        if not (isinstance(module, TensorQuantizer) and module.is_enabled and module.backend == BACKEND_NAME):
            continue
        module.forward = partial(_fake_quantize, quantizer=module)
        if name.rsplit(".", 1)[-1] == "weight_quantizer":
            # modelopt's own slot for backends, never part of a checkpoint; it is declared as None alone.
            setattr(module, _CACHE_SLOT, WeightCache())
            caches += 1
    return caches


def invalidate_weight_cache(model: nn.Module) -> None:
    """Make the next forward pass quantize the weights anew. Call after optimizer steps and after loading."""
    for module in model.modules():
        cache = getattr(module, _CACHE_SLOT, None)
        if isinstance(cache, WeightCache):
            cache.invalidate()


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value`, of the shape of `x`, for whose gradient `x` stands in."""
    return _StraightThrough.apply(x, value)


def _straight_through_with_main_grad(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` with the parameter's `main_grad`, for a linear of megatron-core that adds its gradient to that itself."""
    value = _MarkedStraightThrough.apply(parameter, value)
    setattr(value, "main_grad", parameter.main_grad)  # noqa: B010  # pyright: ignore[reportAttributeAccessIssue]
    setattr(value, "grad_added_to_main_grad", False)  # noqa: B010 - attributes of Megatron's on a plain tensor
    return value


class _StraightThrough(torch.autograd.Function):
    """`value` forward; the gradient goes to `x` unchanged, also where `x` saturates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output, None


class _MarkedStraightThrough(torch.autograd.Function):
    """As above, for a parameter whose gradient is in `main_grad` when `backward` is called: what comes is empty."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, value: Tensor) -> Tensor:
        ctx.parameter = parameter
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        ctx.parameter.grad_added_to_main_grad = True  # so that Megatron's hook drops it
        return grad_output, None


def _fake_quantize(inputs: Tensor, quantizer: TensorQuantizer) -> Tensor:
    """What modelopt calls: the NVFP4 value of `inputs` by the quantizer's scales."""
    cache = getattr(quantizer, _CACHE_SLOT)
    if not isinstance(cache, WeightCache):
        return straight_through(inputs, _quantize(inputs, quantizer))
    value = cache.quantize(inputs, quantizer)
    if cache.adds_to_main_grad:
        return _straight_through_with_main_grad(inputs, value)
    return straight_through(inputs, value)


def weight_cache_of(module: nn.Module) -> WeightCache | None:
    """The cache of a linear's weight quantizer; None where it is not quantized or has none."""
    cache = getattr(getattr(module, "weight_quantizer", None), _CACHE_SLOT, None)
    return cache if isinstance(cache, WeightCache) else None


def _quantize(x: Tensor, quantizer: TensorQuantizer, out: Tensor | None = None) -> Tensor:
    """By the calibrated amax, or by that of `x` where there is none; a static quantizer has one for each block too."""
    x = x.detach()
    amax: Tensor | None = getattr(quantizer, "_amax", None)
    tensor_amax: Tensor | None = getattr(quantizer, "_global_amax", None)
    if tensor_amax is not None:
        return nvfp4_quantize_dequantize(x, tensor_amax, amax, out)
    return nvfp4_quantize_dequantize(x, x.abs().amax() if amax is None else amax, out=out)
