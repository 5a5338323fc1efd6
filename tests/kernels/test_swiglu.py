"""The fused SwiGLU computes what the plain code does; run under Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qad_core.kernels.swiglu import swiglu, swiglu_reference
from tests.kernels.kd_cases import relative_error
from tests.kernels.triton_cases import needs_triton, normal


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3, 96), (2, 4200), (3, 1, 2)])
def test_the_fused_activation_and_its_gradient_err_no_more_than_the_plain_one(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = 3 * normal(*shape, dtype=dtype)
    upstream = normal(*shape[:-1], shape[-1] // 2, seed=2, dtype=dtype)

    def run(function: object, to: torch.dtype) -> tuple[Tensor, Tensor]:
        leaf = x.to(to).requires_grad_()
        out = function(leaf)  # pyright: ignore[reportCallIssue]
        return out, torch.autograd.grad(out, leaf, upstream.to(to))[0]

    exact, plain = run(swiglu_reference, torch.float64), run(swiglu_reference, dtype)
    for ours, theirs, right in zip(run(swiglu, dtype), plain, exact, strict=True):
        assert relative_error(ours, right) <= 1.1 * relative_error(theirs, right) + 1e-7


@needs_triton
def test_no_row_gives_no_row() -> None:
    x = normal(0, 8).requires_grad_()
    out = swiglu(x)
    assert out.shape == (0, 4)
    assert torch.autograd.grad(out.sum(), x)[0].shape == (0, 8)
