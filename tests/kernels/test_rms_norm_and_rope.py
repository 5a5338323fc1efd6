"""The fused RMSNorm and rotary embedding compute what the plain code does; run under Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from megatron.core.models.common.embeddings.rope_utils import _apply_rotary_pos_emb_bshd
from torch import Tensor

from qad_core.kernels.device_choice import is_interpreted
from qad_core.kernels.rms_norm import rms_norm, rms_norm_reference
from qad_core.kernels.rope import apply_rope

needs_triton = pytest.mark.skipif(
    not is_interpreted() and not torch.cuda.is_available(), reason="Triton runs on a GPU or in its interpreter"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def relative_error(value: Tensor, truth: Tensor) -> float:
    return ((value.double() - truth.double()).norm() / truth.double().norm()).item()


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 48), (2, 3, 4, 16), (3, 1, 576)])
def test_the_fused_norm_and_its_gradients_err_no_more_than_the_plain_one(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x, weight, upstream = normal(*shape, dtype=dtype), 1 + 0.3 * normal(shape[-1], dtype=dtype), normal(*shape, seed=2)

    def run(function: object, to: torch.dtype) -> tuple[Tensor, ...]:
        leaves = [t.to(to).requires_grad_() for t in (x, weight)]
        out = function(*leaves, 1e-6)  # pyright: ignore[reportCallIssue]
        return out, *torch.autograd.grad(out, leaves, upstream.to(to))

    def truth(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)

    exact = run(truth, torch.float64)
    plain, fused = run(rms_norm_reference, dtype), run(rms_norm, dtype)
    for ours, theirs, right in zip(fused, plain, exact, strict=True):
        assert relative_error(ours, right) <= 1.1 * relative_error(theirs, right) + 1e-7


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_rotation_and_its_gradient_err_no_more_than_megatron_s(dtype: torch.dtype) -> None:
    x, upstream = normal(7, 2, 3, 24, dtype=dtype), normal(7, 2, 3, 24, dtype=dtype, seed=2)
    half = torch.outer(torch.arange(7.0), 10.0 ** -torch.arange(0, 12).div(3))
    angles = torch.cat((half, half), -1)[:, None, None, :].to(DEVICE)

    def run(function: object, to: torch.dtype) -> tuple[Tensor, Tensor]:
        leaf = x.to(to).requires_grad_()
        out = function(leaf, angles.to(to) if to == torch.float64 else angles)  # pyright: ignore[reportCallIssue]
        return out, torch.autograd.grad(out, leaf, upstream.to(to))[0]

    exact, plain = run(_apply_rotary_pos_emb_bshd, torch.float64), run(_apply_rotary_pos_emb_bshd, dtype)
    for ours, theirs, right in zip(run(apply_rope, dtype), plain, exact, strict=True):
        assert relative_error(ours, right) <= 1.1 * relative_error(theirs, right) + 1e-7


def test_another_pairing_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match="interleaved=True"):
        apply_rope(torch.zeros(2, 1, 1, 8), torch.zeros(2, 1, 1, 8), interleaved=True)
