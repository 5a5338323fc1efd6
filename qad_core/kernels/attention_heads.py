"""From the rows of one product to the heads of attention: queries and keys normed and turned by their positions.

Owns the plain code, which runs where Triton does not, the choice, and the gradient of the fused pass; its kernels are
in `attention_heads_kernels.py`. The fused pass reads each row once and rounds once, where the plain code writes a copy,
a norm and a rotation, rounding each, and a concatenation of the gradients.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qad_core.kernels.device_choice import uses_triton
from qad_core.kernels.rms_norm import rms_norm

HeadNorm = tuple[Tensor, Tensor, float]
"""Weight of the queries' norm [d], weight of the keys' [d], epsilon."""


def split_heads(
    mixed: Tensor, angles: Tensor, *, query_heads_per_group: int, norm: HeadNorm | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [s, b, groups * r, d], keys and values [s, b, groups, d] of `mixed` [s, b, groups * (r + 2) * d].

    `mixed` is megatron-core's: for each group its r = `query_heads_per_group` queries, then its key and its value.
    Queries and keys are normed (RMSNorm, where `norm` is given) and feature j is turned with feature j + d / 2 by
    `angles` [s, 1, 1, d], whose halves are the same (rotary embedding). The values are a view of `mixed`.
    """
    rows = mixed.unflatten(-1, (-1, query_heads_per_group + 2, angles.shape[-1]))  # [s, b, groups, r + 2, d]
    cosine, sine = _cosine_and_sine(angles, mixed.dtype)
    if uses_triton(mixed):
        return _FusedHeads.apply(rows, cosine, sine, *(norm or (None, None, 0.0)))
    return split_heads_reference(rows, cosine, sine, norm)


def split_heads_reference(
    rows: Tensor, cosine: Tensor, sine: Tensor, norm: HeadNorm | None
) -> tuple[Tensor, Tensor, Tensor]:
    """`split_heads` in plain torch, of rows [s, b, groups, r + 2, d] and cosines and sines [s, d / 2]."""
    query, key, value = rows[..., :-2, :].flatten(2, 3), rows[..., -2, :], rows[..., -1, :]
    if norm is not None:
        query_weight, key_weight, eps = norm
        query, key = rms_norm(query, query_weight, eps), rms_norm(key, key_weight, eps)
    return _turn(query, cosine, sine), _turn(key, cosine, sine), value


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    cosine, sine = cosine[:, None, None, :], sine[:, None, None, :]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


@lru_cache(maxsize=64)
def _cosine_and_sine(angles: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """[s, d / 2] each, rounded to `dtype` as megatron-core does, which keeps the angles of a length too.

    A recorded graph reads them again, so that those of a run's few lengths must stay.
    """
    half = angles.view(angles.shape[0], -1)[:, : angles.shape[-1] // 2]
    return half.cos().to(dtype).contiguous(), half.sin().to(dtype).contiguous()


class _FusedHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        cosine: Tensor,
        sine: Tensor,
        query_weight: Tensor | None,
        key_weight: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from qad_core.kernels import attention_heads_kernels  # Triton is there with CUDA builds of torch alone

        rows = rows.detach().contiguous()
        ctx.save_for_backward(rows, cosine, sine, query_weight, key_weight)
        ctx.eps = eps
        query, key = attention_heads_kernels.split(rows, cosine, sine, query_weight, key_weight, eps)
        return query, key, rows[..., -1, :]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dquery: Tensor, dkey: Tensor, dvalue: Tensor) -> tuple[Tensor | None, ...]:
        from qad_core.kernels import attention_heads_kernels

        rows, cosine, sine, query_weight, key_weight = ctx.saved_tensors
        drows, dquery_weight, dkey_weight = attention_heads_kernels.split_backward(
            dquery.contiguous(), dkey.contiguous(), dvalue.contiguous(),
            rows, cosine, sine, query_weight, key_weight, ctx.eps,
        )  # fmt: skip
        return drows, None, None, dquery_weight, dkey_weight, None
