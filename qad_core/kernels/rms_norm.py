"""RMSNorm: in plain torch as transformers' Qwen3 and Llama have it, and fused where Triton runs.

The plain one rounds before and after it scales, the fused one only after. Owns the formula and the choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qad_core.kernels.device_choice import uses_triton


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalize the last axis of `x` [..., width] and scale by `weight` [width]; shape and type are kept."""
    return _FusedRmsNorm.apply(x, weight, eps) if uses_triton(x) else rms_norm_reference(x, weight, eps)


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm` in plain torch."""
    values = x.float()
    normalized = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + eps)
    return weight * normalized.to(x.dtype)


class _FusedRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        from qad_core.kernels import rms_norm_kernels  # Triton is there with CUDA builds of torch alone

        flat = x.contiguous().view(-1, x.shape[-1])
        out, inverse_rms = rms_norm_kernels.normalize(flat, weight, eps)
        ctx.save_for_backward(flat, weight, inverse_rms)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        from qad_core.kernels import rms_norm_kernels

        flat, weight, inverse_rms = ctx.saved_tensors
        gradient = grad_output.contiguous().view(flat.shape)
        dx, dweight = rms_norm_kernels.normalize_backward(gradient, flat, weight, inverse_rms)
        return dx.view(grad_output.shape), dweight, None
