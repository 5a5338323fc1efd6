"""NVFP4 numerics: bit for bit modelopt's, and defined where modelopt's are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from modelopt.torch.quantization.qtensor import NVFP4QTensor
from torch import Tensor

from qad_core.errors import ModelError
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize, nvfp4_reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INTEGER_OF_SAME_SIZE = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def modelopt_nvfp4(x: Tensor, amax: Tensor) -> Tensor:
    parts: tuple[Any, Tensor, Tensor] = NVFP4QTensor.quantize(  # type: ignore[assignment]
        x.clone(), 16, weights_scaling_factor_2=amax.float() / (6 * 448)
    )
    quantized, block_scale, tensor_scale = parts
    return quantized.dequantize(scale=block_scale, double_scale=tensor_scale, block_sizes={-1: 16})


def assert_same_bits(a: Tensor, b: Tensor) -> None:
    assert a.dtype == b.dtype
    integer = INTEGER_OF_SAME_SIZE[a.dtype]
    assert torch.equal(a.view(integer), b.view(integer))


@st.composite
def tensors_and_amax(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Blocks of very different sizes, zeros and exact ties among them, and an amax about or off the true one."""
    seed, rows, blocks = draw(st.integers(0, 2**31)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, blocks, 16, generator=generator)
    if draw(st.booleans()):  # multiples of an eighth of the largest: many ties of the rounding
        values = (values * 8).round() / 8
    spread = draw(st.sampled_from([0.0, 1.0, 6.0]))
    values *= torch.exp(spread * torch.randn(rows, blocks, 1, generator=generator)) * draw(st.sampled_from([1e-3, 1.0]))
    values[torch.rand(rows, blocks, generator=generator) < 0.1] = 0.0
    x = values.view(rows, blocks * 16).to(draw(st.sampled_from(DTYPES))).clamp(-6e4, 6e4)
    amax = x.abs().amax().float().clamp(min=1e-6) * draw(st.sampled_from([1.0, 0.01, 0.7, 100.0]))
    return x, amax


@settings(max_examples=100, deadline=None, derandomize=True)
@given(tensors_and_amax())
def test_every_bit_is_that_of_modelopt_and_of_the_reference(case: tuple[Tensor, Tensor]) -> None:
    x, amax = case
    ours = nvfp4_quantize_dequantize(x, amax)
    assert_same_bits(ours, modelopt_nvfp4(x, amax))
    assert_same_bits(ours, nvfp4_reference(x, amax))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_many_tiles_is_quantized_like_its_parts(dtype: torch.dtype) -> None:
    x = torch.randn(1300, 816, generator=torch.Generator().manual_seed(0)).to(dtype)  # two tiles and a part
    amax = x.abs().amax()
    assert_same_bits(nvfp4_quantize_dequantize(x, amax), modelopt_nvfp4(x, amax))


def test_ties_go_to_the_even_mantissa() -> None:
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0])
    x = torch.cat((ties, -ties))
    to_even = torch.tensor([0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0])
    amax = torch.tensor(6.0 * 448)  # makes both scales 1
    assert torch.equal(nvfp4_quantize_dequantize(x, amax), torch.cat((to_even, -to_even)))


def test_a_tensor_of_zeros_stays_zeros() -> None:
    x = torch.zeros(2, 32)
    assert torch.equal(nvfp4_quantize_dequantize(x, torch.tensor(0.0)), x)
    assert torch.equal(nvfp4_reference(x, torch.tensor(0.0)), x)


def test_an_amax_of_zero_gives_zeros_whatever_the_values() -> None:
    x = torch.randn(2, 32)
    assert nvfp4_quantize_dequantize(x, torch.tensor(0.0)).count_nonzero() == 0


def test_a_block_below_the_smallest_scale_rounds_to_zero_without_nan() -> None:
    x = torch.full((1, 32), 1e-12)
    x[0, 0] = 1.0
    y = nvfp4_quantize_dequantize(x, torch.tensor(1.0))
    assert y[0, 0] == 1.0 and y[0, 1:].count_nonzero() == 0


def test_values_beyond_amax_saturate() -> None:
    x = torch.tensor([[100.0, -100.0] + [1.0] * 14])
    y = nvfp4_quantize_dequantize(x, torch.tensor(2.0))
    assert y[0, 0] == 2.0 and y[0, 1] == -2.0


def test_a_nan_stays_in_its_block() -> None:
    x = torch.ones(1, 32)
    x[0, 3] = float("nan")
    y = nvfp4_quantize_dequantize(x, torch.tensor(1.0))
    assert y[0, :16].isnan().all() and torch.equal(y[0, 16:], x[0, 16:])


def test_a_transposed_view_is_quantized_along_its_own_last_axis() -> None:
    x = torch.randn(32, 48)
    amax = x.abs().amax()
    assert torch.equal(nvfp4_quantize_dequantize(x.t(), amax), nvfp4_quantize_dequantize(x.t().contiguous(), amax))


def test_a_width_without_whole_blocks_is_refused_with_its_shape() -> None:
    with pytest.raises(ModelError, match=r"shape \(3, 24\)") as refusal:
        nvfp4_quantize_dequantize(torch.ones(3, 24), torch.tensor(1.0))
    assert "multiple of 16" in refusal.value.hint


def test_another_type_is_refused() -> None:
    with pytest.raises(ModelError, match="float64"):
        nvfp4_quantize_dequantize(torch.ones(3, 16, dtype=torch.float64), torch.tensor(1.0))


def test_stacked_weights_have_a_scale_each() -> None:
    experts = (
        torch.randn(3, 8, 32, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 1e-3, 50.0])[:, None, None]
    )
    amax = experts.abs().amax((1, 2))
    together = nvfp4_quantize_dequantize(experts, amax)
    assert torch.equal(
        together, torch.stack([nvfp4_quantize_dequantize(*each) for each in zip(experts, amax, strict=True)])
    )
    with pytest.raises(ModelError, match="2 amax values do not divide"):
        nvfp4_quantize_dequantize(experts, amax[:2])
