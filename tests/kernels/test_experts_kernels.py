from __future__ import annotations

import pytest
import torch

from qad_core.kernels.grouped_products import grouped_linear, grouped_linear_reference
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize, nvfp4_reference
from qad_core.kernels.nvfp4_experts import nvfp4_rows_by_expert

COUNTS = (0, 5, 0, 12, 1)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("width", "out"), [(32, 48), (18, 6)])  # the second is not aligned
def test_each_experts_rows_meet_its_own_weight(width: int, out: int, device: str) -> None:
    counts = torch.tensor(COUNTS)
    rows, weight, upstream = make_inputs(width, out, device)
    exact = [tensor.detach().double().requires_grad_() for tensor in (rows, weight)]
    parts = zip(exact[0].split(list(COUNTS)), exact[1].unbind(), strict=True)
    torch.cat([part @ matrix.T for part, matrix in parts]).backward(upstream.double())
    for product in (grouped_linear, grouped_linear_reference):
        inputs = [tensor.detach().clone().requires_grad_() for tensor in (rows, weight)]
        product(inputs[0], inputs[1], counts).backward(upstream)
        for ours, theirs in zip(inputs, exact, strict=True):
            assert ours.grad is not None and theirs.grad is not None
            assert (ours.grad - theirs.grad).abs().max() < 2e-2 * theirs.grad.abs().max()
            assert ours.grad.dtype == torch.bfloat16
        assert inputs[1].grad is not None and not inputs[1].grad[0].any()  # no rows, no gradient


@pytest.mark.parametrize("device", DEVICES)
def test_experts_without_any_rows_have_a_zero_gradient(device: str) -> None:
    rows, weight, _ = make_inputs(32, 48, device)
    rows = rows[:0].requires_grad_()
    weight.requires_grad_()
    grouped_linear(rows, weight, torch.zeros(len(COUNTS), dtype=torch.int64)).sum().backward()
    assert weight.grad is not None and not weight.grad.any()


@pytest.mark.parametrize("device", DEVICES)
def test_each_experts_rows_are_quantized_by_its_own_amax(device: str) -> None:
    rows, weight, _ = make_inputs(32, 48, device)
    amax = torch.linspace(0.5, 40, len(COUNTS), device=device)
    quantized = nvfp4_rows_by_expert(rows, amax, torch.tensor(COUNTS))
    for ours, part, one in zip(quantized.split(list(COUNTS)), rows.split(list(COUNTS)), amax, strict=True):
        assert torch.equal(ours, nvfp4_reference(part, one))
    # A stack of weights is one call, whatever the shape behind its first axis.
    stacked = nvfp4_quantize_dequantize(weight.view(len(COUNTS), 2, 24, 32), amax)
    for ours, part, one in zip(stacked, weight, amax, strict=True):
        assert torch.equal(ours.flatten(0, 1), nvfp4_reference(part, one))


def make_inputs(width: int, out: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """bfloat16 rows [18, width], weight [experts, out, width] and gradient [18, out]."""
    generator = torch.Generator().manual_seed(3)
    shapes = (sum(COUNTS), width), (len(COUNTS), out, width), (sum(COUNTS), out)
    rows, weight, upstream = (torch.randn(shape, generator=generator).to(device, torch.bfloat16) for shape in shapes)
    return rows, weight, upstream
