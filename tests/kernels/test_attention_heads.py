"""Heads split from one product's rows are normed and turned as megatron-core does it; fused, with no more error."""

from __future__ import annotations

import pytest
import torch
from megatron.core.models.common.embeddings.rope_utils import _apply_rotary_pos_emb_bshd
from torch import Tensor

from qad_core.kernels.attention_heads import split_heads
from qad_core.kernels.device_choice import is_interpreted
from qad_core.kernels.rms_norm import rms_norm_reference
from tests.kernels.kd_cases import relative_error
from tests.kernels.triton_cases import DEVICE, needs_triton, normal

LENGTH, BATCH, EPS = 7, 2, 1e-6


def angles_of(width: int) -> Tensor:
    half = torch.outer(torch.arange(float(LENGTH)), 10.0 ** -torch.arange(0, width // 2).div(3))
    return torch.cat((half, half), -1)[:, None, None, :].to(DEVICE)


def by_megatron(
    mixed: Tensor, angles: Tensor, *, query_heads_per_group: int, norm: list[Tensor] | None
) -> tuple[Tensor, ...]:
    """As its SelfAttention does it, with our plain norm."""
    rows = mixed.view(LENGTH, BATCH, -1, query_heads_per_group + 2, angles.shape[-1])
    query, key, value = rows[..., :-2, :].flatten(2, 3), rows[..., -2, :], rows[..., -1, :]
    if norm is not None:
        query, key = (rms_norm_reference(x, w, EPS) for x, w in zip((query, key), norm, strict=True))
    return *(_apply_rotary_pos_emb_bshd(x, angles) for x in (query, key)), value


def run(
    function: object, mixed: Tensor, weights: list[Tensor], upstream: list[Tensor], heads: int, width: int
) -> tuple[Tensor, ...]:
    """Queries, keys, values, and the gradients of the rows and the norms' weights, in the type of `mixed`."""
    leaf, *weights = (t.to(mixed.dtype).detach().requires_grad_() for t in (mixed, *weights))
    norm = None
    if weights:
        norm = (*weights, EPS) if function is split_heads else weights
    angles = angles_of(width).to(torch.float64 if mixed.dtype == torch.float64 else torch.float32)
    out = function(leaf, angles, query_heads_per_group=heads, norm=norm)  # pyright: ignore[reportCallIssue]
    return *out, *torch.autograd.grad(out, (leaf, *weights), [each.to(mixed.dtype) for each in upstream])


CASES = pytest.mark.parametrize(
    ("groups", "heads", "width", "has_norm"), [(2, 2, 24, True), (3, 1, 16, True), (1, 4, 8, False)]
)


def case(groups: int, heads: int, width: int, has_norm: bool) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    mixed = normal(LENGTH, BATCH, groups * (heads + 2) * width)
    weights = [1 + 0.3 * normal(width, seed=seed) for seed in (1, 2)] if has_norm else []
    counts = (groups * heads, groups, groups)
    upstream = [normal(LENGTH, BATCH, count, width, seed=3 + i) for i, count in enumerate(counts)]
    return mixed, weights, upstream


@needs_triton
@CASES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_pass_and_its_gradients_err_no_more_than_megatron_s_steps(
    groups: int, heads: int, width: int, has_norm: bool, dtype: torch.dtype
) -> None:
    mixed, weights, upstream = case(groups, heads, width, has_norm)
    mixed, weights, upstream = mixed.to(dtype), [w.to(dtype) for w in weights], [g.to(dtype) for g in upstream]
    exact = run(by_megatron, mixed.double(), weights, upstream, heads, width)
    plain = run(by_megatron, mixed, weights, upstream, heads, width)
    fused = run(split_heads, mixed, weights, upstream, heads, width)
    for ours, theirs, right in zip(fused, plain, exact, strict=True):
        assert ours.shape == right.shape
        assert relative_error(ours, right) <= 1.1 * relative_error(theirs, right) + 1e-7


@pytest.mark.skipif(is_interpreted() or torch.cuda.is_available(), reason="is of the plain code")
@CASES
def test_the_plain_pass_is_megatron_s_bit_for_bit(groups: int, heads: int, width: int, has_norm: bool) -> None:
    mixed, weights, upstream = case(groups, heads, width, has_norm)
    mixed = mixed.bfloat16()
    ours, theirs = (run(function, mixed, weights, upstream, heads, width) for function in (split_heads, by_megatron))
    for one, other in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(ours[3:], theirs[3:], strict=True):
        assert relative_error(one, other) < 1e-2
