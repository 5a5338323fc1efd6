"""The fused RMSNorm computes what the plain code does; run under Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qad_core.kernels.rms_norm import rms_norm, rms_norm_reference
from tests.kernels.kd_cases import relative_error
from tests.kernels.triton_cases import needs_triton, normal


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
