"""The short way through a quantized linear gives what modelopt's way gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.gpu_step import build
from qad_core.config.schema import ParallelismConfig
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from qad_core.train.quantized_linears import shorten_linears
from tests.train.test_weight_gradients import ARCHITECTURE, BLOCK_LINEARS, run_passes


@pytest.fixture(scope="module")
def context() -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), device="cpu", precision="bf16")
    shut_down_parallel()


def test_gradients_are_the_same_bit_for_bit_on_the_short_way_and_on_modelopt_s(context: RankContext) -> None:
    model, _ = build(ARCHITECTURE, ParallelismConfig(), context)
    shortened = [module for module in model.modules() if "_forward_impl" in vars(module)]
    assert len(shortened) == BLOCK_LINEARS
    ours = run_passes(model, context)
    for module in shortened:
        del module.forward, module._forward_impl
    theirs = run_passes(model, context)
    for name, gradient in theirs.items():
        assert gradient.norm() > 0, name
        assert torch.equal(ours[name], gradient), name
    assert shorten_linears(model) == BLOCK_LINEARS
