"""NVFP4 through modelopt's quantizers: values, straight-through gradients, the weight cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import modelopt.torch.opt as mto
import modelopt.torch.quantization as mtq
import pytest
import torch
from torch import Tensor, nn

from qad_core.kernels import nvfp4_backend
from qad_core.kernels.nvfp4 import nvfp4_quantize_dequantize
from qad_core.kernels.nvfp4_backend import (
    enable_weight_cache,
    invalidate_weight_cache,
    nvfp4_config,
    register_nvfp4_backend,
)
from tests.kernels.test_nvfp4 import assert_same_bits, modelopt_nvfp4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.linear_fc1 = nn.Linear(32, 64)
        self.linear_fc2 = nn.Linear(64, 32, bias=False)
        self.output_layer = nn.Linear(32, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        return self.output_layer(self.linear_fc2(nn.functional.gelu(self.linear_fc1(hidden))))


@pytest.fixture
def model() -> Any:
    """A quantized `Block`; modelopt gives its modules attributes that no checker can see."""
    register_nvfp4_backend()
    torch.manual_seed(0)
    return mtq.quantize(Block(), nvfp4_config(), lambda m: m(torch.arange(50)))


@pytest.fixture
def quantized_shapes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of all tensors quantized during the test, in order."""
    shapes: list[tuple[int, ...]] = []

    def record(x: Tensor, amax: Tensor, block_amax: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        shapes.append(tuple(x.shape))
        return nvfp4_quantize_dequantize(x, amax, block_amax, out)

    monkeypatch.setattr(nvfp4_backend, "nvfp4_quantize_dequantize", record)
    yield shapes


def weights_among(shapes: list[tuple[int, ...]]) -> int:
    return sum(shape in ((64, 32), (32, 64)) for shape in shapes)


def test_registering_twice_is_one_backend() -> None:
    assert register_nvfp4_backend() == register_nvfp4_backend() == "qad_nvfp4"


def test_block_linears_are_quantized_and_output_layer_and_embedding_are_not(model: Any) -> None:
    for linear in (model.linear_fc1, model.linear_fc2):
        assert linear.weight_quantizer.is_enabled and linear.input_quantizer.is_enabled
        assert linear.weight_quantizer.backend == linear.input_quantizer.backend == "qad_nvfp4"
    assert not model.output_layer.weight_quantizer.is_enabled
    assert not model.output_layer.input_quantizer.is_enabled


def test_a_fake_quantized_weight_is_modelopts_value_at_the_calibrated_amax(model: Any) -> None:
    linear = model.linear_fc1
    amax = linear.weight_quantizer._amax
    assert amax == linear.weight.abs().amax()
    assert_same_bits(linear.weight_quantizer(linear.weight).detach(), modelopt_nvfp4(linear.weight.detach(), amax))


def test_a_quantizer_without_amax_takes_that_of_its_input(model: Any) -> None:
    quantizer = model.linear_fc1.input_quantizer
    x = 9 * torch.randn(4, 32)
    del quantizer._amax
    assert_same_bits(quantizer(x), modelopt_nvfp4(x, x.abs().amax()))


def test_gradients_pass_straight_through_also_where_values_saturate(model: Any) -> None:
    x = (100 * torch.randn(4, 32)).requires_grad_()
    factor = torch.randn(4, 32)
    (model.linear_fc1.input_quantizer(x) * factor).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, factor)


def test_a_cached_weight_is_quantized_once_until_it_is_invalidated(
    model: Any, quantized_shapes: list[tuple[int, ...]]
) -> None:
    tokens = torch.arange(7)
    assert enable_weight_cache(model) == 2
    for _ in range(2):
        model(tokens)
    assert weights_among(quantized_shapes) == 2 and len(quantized_shapes) == 2 + 4  # activations each time
    invalidate_weight_cache(model)
    for _ in range(2):
        model(tokens)
    assert weights_among(quantized_shapes) == 4


def test_the_cache_gives_what_no_cache_gives_after_a_step_behind_autograds_back(model: Any) -> None:
    tokens = torch.arange(7)
    enable_weight_cache(model)
    before = model(tokens)
    model.linear_fc1.weight.data.mul_(0.5)
    invalidate_weight_cache(model)
    cached = model(tokens)
    assert not torch.equal(cached, before)
    model.linear_fc1.weight_quantizer._quantizer_cache = None
    assert torch.equal(model(tokens), cached)


def test_gradients_reach_the_weight_through_the_cache(model: Any) -> None:
    tokens = torch.arange(7)
    model(tokens).sum().backward()
    expected = model.linear_fc1.weight.grad.clone()
    model.zero_grad()
    enable_weight_cache(model)
    for _ in range(2):  # two micro-batches, the second from the cache
        model(tokens).sum().backward()
    assert torch.allclose(model.linear_fc1.weight.grad, 2 * expected)


def test_the_cache_is_no_part_of_a_checkpoint(model: Any) -> None:
    keys = set(model.state_dict())
    enable_weight_cache(model)
    model(torch.arange(7))
    assert set(model.state_dict()) == keys
    assert "WeightCache" not in str(mto.modelopt_state(model))
