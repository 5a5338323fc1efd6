"""Static NVFP4 block scales: the best there are, by brute force in float64, and quantized by to the bit."""

from __future__ import annotations

from typing import Any

import modelopt.torch.quantization as mtq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from modelopt.torch.quantization.calib.mse import NVFP4MSECalibrator
from modelopt.torch.quantization.config import QuantizerAttributeConfig
from modelopt.torch.quantization.nn import NVFP4StaticQuantizer, TensorQuantizer
from modelopt.torch.quantization.qtensor import NVFP4QTensor
from torch import Tensor, nn

from qad_core.errors import ModelError
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize, nvfp4_reference
from qad_core.kernels.nvfp4_backend import BACKEND_NAME, enable_weight_cache, nvfp4_config, register_nvfp4_backend
from qad_core.kernels.nvfp4_block_scales import four_over_six_block_amax, mse_block_amax
from qad_core.train.block_scales import fit_block_scales, hold_block_scales
from tests.kernels.test_nvfp4 import assert_same_bits, tensors_and_amax

E4M3 = torch.arange(1, 127, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], dtype=torch.float64)
CASES = settings(max_examples=25, deadline=None, derandomize=True)


def make_weight(dtype: torch.dtype = torch.float32, magnitude: float = 1.0) -> Tensor:
    """Blocks over many magnitudes; the last row has an exact one, one of ties, one of zeros and one much too small."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 64, generator=generator) * torch.exp(3 * torch.randn(24, 1, generator=generator)).clamp(max=50)
    x[-1, :16] = torch.cat((E2M1, -E2M1)).float()
    x[-1, 16:32] = (x[-1, 16:32] * 2).round() / 2
    x[-1, 32:48] = 0.0
    x[-1, 48:] *= 1e-9
    return (x * magnitude).to(dtype)


def errors_of(x: Tensor, scale: Tensor) -> Tensor:
    """Squared error [n] of each block of `x` under its `scale` [n], in float64, each element at its nearest value."""
    blocks = x.double().reshape(-1, 16)
    distances = (blocks.abs()[..., None] - E2M1 * scale.double()[:, None, None]).abs()
    return distances.amin(-1).square().sum(-1)


def max_scale(x: Tensor, amax: Tensor, value: float = 6.0) -> Tensor:
    """The scale [n] of each block whose amax is mapped to `value`."""
    tensor_scale = amax.float() / 2688
    ideal = x.float().reshape(-1, 16).abs().amax(-1) / (value * tensor_scale)
    return ideal.clamp(2.0**-9, 448.0).to(torch.float8_e4m3fn).double() * tensor_scale.double()


def assert_no_larger(errors: Tensor, bound: Tensor, x: Tensor) -> None:
    """But for the float32 rounding of a value, which is all the error that an exact block has."""
    rounding = (x.double().reshape(-1, 16).abs().amax(-1) * 2.0**-22).square() * 16
    assert bool((errors <= bound * (1 + 1e-5) + rounding).all())


def assert_best_of_all_scales(x: Tensor, amax: Tensor) -> None:
    tensor_scale = (amax.float() / 2688).double()
    ours = errors_of(x, mse_block_amax(x, amax).reshape(-1) / 6)
    for candidate in E4M3:
        assert_no_larger(ours, errors_of(x, (candidate * tensor_scale).expand(ours.shape)), x)


@CASES
@given(tensors_and_amax())
def test_no_e4m3_scale_has_a_smaller_error_than_the_sweep_s(case: tuple[Tensor, Tensor]) -> None:
    assert_best_of_all_scales(case[0], case[0].abs().amax())


@pytest.mark.parametrize("magnitude", [1e-30, 1e-4, 1.0, 1e30])
def test_the_sweep_is_the_best_for_tiny_and_huge_tensors_too(magnitude: float) -> None:
    x = make_weight(magnitude=magnitude)
    assert_best_of_all_scales(x, x.abs().amax())


def test_the_sweep_finds_what_modelopts_calibrator_finds() -> None:
    x = make_weight()
    amax, blocks = x.abs().amax(), x.view(-1, 16)
    calibrator = NVFP4MSECalibrator(
        blocks.abs().amax(-1), amax, axis=0, quant_func=lambda x, block_amax: nvfp4_reference(x, amax, block_amax)
    )
    calibrator.collect(blocks)
    theirs = calibrator.compute_amax()
    assert theirs is not None
    ours = mse_block_amax(x, amax).reshape(-1)
    # The two may differ where scales tie: a block that is zero under several of them.
    assert torch.allclose(errors_of(x, ours / 6), errors_of(x, theirs / 6), rtol=1e-5, atol=1e-12)
    assert (ours - theirs).abs().gt(1e-5 * theirs).float().mean() < 0.1


@CASES
@given(tensors_and_amax())
def test_four_over_six_is_the_better_of_the_two_in_every_block(case: tuple[Tensor, Tensor]) -> None:
    x, amax = case[0], case[0].abs().amax()
    six, four = (errors_of(x, max_scale(x, amax, value)) for value in (6.0, 4.0))
    chosen = errors_of(x, four_over_six_block_amax(x, amax).reshape(-1) / 6)
    assert_no_larger(chosen, torch.minimum(six, four).nan_to_num(0.0), x)  # NaN where all of x is zero


@pytest.mark.parametrize("search", [mse_block_amax, four_over_six_block_amax])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_under_chosen_scales_are_the_reference_s_and_no_block_is_worse_than_max(
    search: Any, dtype: torch.dtype
) -> None:
    x = make_weight(dtype)
    amax = x.abs().amax()
    block_amax = search(x, amax)
    assert block_amax.shape == (24, 4) and block_amax.dtype == torch.float32
    assert_same_bits(nvfp4_quantize_dequantize(x, amax, block_amax), nvfp4_reference(x, amax, block_amax))
    wide = x.float()
    ours, theirs = (
        (nvfp4_quantize_dequantize(wide, amax, static).double() - wide.double()).view(-1, 16).square().sum(-1)
        for static in (block_amax, None)
    )
    assert bool((ours <= theirs * (1 + 1e-6)).all()) and ours.sum() < 0.95 * theirs.sum()


@CASES
@given(tensors_and_amax(), st.sampled_from([0.3, 1.0, 1.7]))
def test_any_block_amax_is_quantized_by_as_the_reference_says(case: tuple[Tensor, Tensor], factor: float) -> None:
    x, amax = case
    block_amax = x.float().view(-1, 16).abs().amax(-1) * factor
    assert_same_bits(nvfp4_quantize_dequantize(x, amax, block_amax), nvfp4_reference(x, amax, block_amax))


def test_a_tensor_of_many_tiles_has_the_scales_of_its_parts() -> None:
    x = torch.randn(1300, 816, generator=torch.Generator().manual_seed(0)).bfloat16()
    amax = x.abs().amax()
    for search in (mse_block_amax, four_over_six_block_amax):
        whole = search(x, amax)
        assert torch.equal(whole, torch.cat([search(part, amax) for part in x.split(7)]))
        assert_same_bits(nvfp4_quantize_dequantize(x, amax, whole), nvfp4_reference(x, amax, whole))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("magnitude", [1e-30, 1e-4, 1.0, 1e30])
def test_on_a_gpu_static_scales_are_quantized_by_as_the_reference_says(magnitude: float) -> None:
    x = make_weight(magnitude=magnitude).cuda()
    amax = x.abs().amax()
    for block_amax in (mse_block_amax(x, amax), four_over_six_block_amax(x, amax)):
        assert_same_bits(nvfp4_quantize_dequantize(x, amax, block_amax), nvfp4_reference(x, amax, block_amax))


def test_an_element_beyond_its_static_scale_saturates_and_a_nan_stays_alone() -> None:
    x = torch.ones(1, 32)
    x[0, 0], x[0, 1], x[0, 2] = 9.0, -torch.inf, torch.nan
    y = nvfp4_quantize_dequantize(x, torch.tensor(2688.0), torch.full((2,), 6.0))
    assert y[0, :2].tolist() == [6.0, -6.0] and y[0, 2].isnan() and torch.equal(y[0, 3:], x[0, 3:])


def test_stacked_weights_are_searched_and_quantized_each_by_its_own_amax() -> None:
    experts = torch.stack([make_weight(magnitude=magnitude) for magnitude in (1.0, 1e-3, 40.0)])
    amax = experts.abs().amax((1, 2))
    block_amax = mse_block_amax(experts, amax)
    each = [mse_block_amax(*expert) for expert in zip(experts, amax, strict=True)]
    assert torch.equal(block_amax, torch.stack(each))
    values = [nvfp4_quantize_dequantize(*expert) for expert in zip(experts, amax, each, strict=True)]
    assert torch.equal(nvfp4_quantize_dequantize(experts, amax, block_amax), torch.stack(values))


def test_scales_of_another_number_of_blocks_are_refused() -> None:
    with pytest.raises(ModelError, match=r"3 block scales do not fit a tensor of shape \(2, 32\)"):
        nvfp4_quantize_dequantize(torch.ones(2, 32), torch.tensor(1.0), torch.ones(3))


@pytest.fixture(params=["mse", "four_over_six"])
def linear(request: pytest.FixtureRequest) -> Any:
    """A linear layer with static block scales; modelopt gives it attributes that no checker can see."""
    register_nvfp4_backend()
    torch.manual_seed(0)
    layers: Any = nn.Sequential(nn.Linear(64, 48))
    model: Any = mtq.quantize(layers, nvfp4_config(), lambda m: m(torch.randn(9, 64)))
    hold_block_scales(model, request.param)
    enable_weight_cache(model)
    return model[0]


def test_a_static_quantizer_gives_the_values_that_modelopt_exports(linear: Any) -> None:
    quantizer, weight = linear.weight_quantizer, linear.weight.detach()
    assert isinstance(quantizer, NVFP4StaticQuantizer) and quantizer._amax.shape == (48, 4)
    scale, tensor_scale = NVFP4QTensor.get_weights_scaling_factor_from_quantizer(quantizer, weight)
    packed: Any = NVFP4QTensor.quantize(weight.clone(), 16, scale, tensor_scale)[0]
    exported = packed.dequantize(scale=scale, double_scale=tensor_scale, block_sizes={-1: 16})
    assert_same_bits(quantizer(linear.weight).detach(), exported)


def test_scales_are_held_and_gradients_pass_straight_through_where_a_weight_outgrows_them(linear: Any) -> None:
    held = linear.weight_quantizer.amax.clone()
    weight = (5 * linear.weight.detach()).requires_grad_()
    value, factor = linear.weight_quantizer(weight), torch.randn(48, 64)
    (value * factor).sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, factor)
    assert torch.equal(linear.weight_quantizer.amax, held)
    assert bool((value.view(-1, 16).abs().amax(-1) <= held.view(-1) * (1 + 1e-6)).all())


def test_stacked_experts_hold_their_own_scales_and_fit_the_ranks_that_share_them_anew() -> None:
    register_nvfp4_backend()
    format_of_weights = {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}}
    experts: Any = nn.Module()
    experts.weight = nn.Parameter(torch.stack([make_weight(), make_weight(magnitude=1e-3)]))
    experts.weight_quantizer = TensorQuantizer(QuantizerAttributeConfig(**format_of_weights, backend=BACKEND_NAME))
    experts.weight_quantizer.amax = experts.weight.detach().abs().amax((1, 2))
    hold_block_scales(experts, "mse")
    enable_weight_cache(experts)
    value = experts.weight_quantizer(experts.weight)
    for weight, ours in zip(experts.weight.detach(), value, strict=True):
        amax = weight.abs().amax()
        assert torch.equal(ours, nvfp4_quantize_dequantize(weight, amax, mse_block_amax(weight, amax)))
    experts.weight = nn.Parameter(torch.ones(1, 24, 32))  # EP and TP twice as large
    fit_block_scales(experts)
    assert experts.weight_quantizer.amax.shape == (1, 24, 2) and experts.weight_quantizer.global_amax.shape == (1,)


def test_scales_stay_float32_in_a_model_that_is_made_bf16(linear: Any) -> None:
    held = linear.weight_quantizer.amax.clone()
    linear.bfloat16()
    assert torch.equal(linear.weight_quantizer.amax, held) and linear.weight_quantizer.global_amax.dtype == held.dtype
