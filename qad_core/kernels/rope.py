"""Rotary position embedding in one pass, in the place that megatron-core keeps for TransformerEngine's.

Owns the function for GPUs and how it becomes megatron-core's; elsewhere megatron-core's own code runs, which is the
plain version.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from megatron.core.models.common.embeddings import rope_utils
from torch import Tensor
from torch.autograd.function import once_differentiable


def install_fused_rope() -> None:
    """Make `apply_rope_fusion` of megatron-core's configs mean the function of this module."""
    rope_utils.fused_apply_rotary_pos_emb = apply_rope


def apply_rope(x: Tensor, angles: Tensor, interleaved: bool = False) -> Tensor:
    """Turn pairs of features of `x` [s, b, heads, d] by `angles` [s, 1, 1, d], whose two halves are the same.

    Feature j is paired with j + d / 2. Raises ValueError for another pairing and for angles of a part of d.
    """
    if interleaved or angles.shape[-1] != x.shape[-1]:
        raise ValueError(f"RoPE by {tuple(angles.shape)} with interleaved={interleaved} is not what these models have")
    return _Rotation.apply(x, *_cosine_and_sine(angles, x.dtype))


@lru_cache(maxsize=64)
def _cosine_and_sine(angles: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """[s, d / 2] each, rounded to `dtype` as megatron-core does, which keeps the angles of a length too.

    A recorded graph reads them again, so that those of a run's few lengths must stay.
    """
    half = angles.view(angles.shape[0], -1)[:, : angles.shape[-1] // 2]
    return half.cos().to(dtype).contiguous(), half.sin().to(dtype).contiguous()


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        from qad_core.kernels import norm_and_rope  # Triton is there with CUDA builds of torch alone

        ctx.save_for_backward(cosine, sine)
        return norm_and_rope.rotate(x.contiguous(), cosine, sine, backwards=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        from qad_core.kernels import norm_and_rope

        return norm_and_rope.rotate(grad_output.contiguous(), *ctx.saved_tensors, backwards=True), None, None
