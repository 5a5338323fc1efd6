"""Gradients of the quantized linears are added to `main_grad` by their products, once and in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu_step import build
from qad_core.config.schema import ArchitectureConfig, ParallelismConfig, TrainConfig
from qad_core.kernels.nvfp4_backend import weight_cache_of
from qad_core.train import weight_gradients
from qad_core.train.batches import Batch
from qad_core.train.distill import make_forward_step
from qad_core.train.evaluate import run_schedule
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel

MICRO_BATCHES, TOKENS, BLOCK_LINEARS = 2, 32, 8
ARCHITECTURE = ArchitectureConfig(
    family="qwen3",
    num_layers=2,
    hidden_size=64,
    ffn_hidden_size=96,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=16,
    vocab_size=256,
    max_position_embeddings=4096,
)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def context(request: pytest.FixtureRequest) -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), device="cpu", precision=request.param)
    shut_down_parallel()


def run_passes(model: Any, context: RankContext) -> dict[str, Tensor]:
    """What stands in `main_grad` after two micro-batches."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, ARCHITECTURE.vocab_size, (MICRO_BATCHES, 1, TOKENS), generator=generator)
    positions = torch.arange(TOKENS).expand(1, TOKENS)
    batches = (Batch(each, each, torch.ones(1, TOKENS), positions) for each in tokens)
    model.zero_grad_buffer()
    train = TrainConfig(sequence_length=TOKENS, micro_batch_size=1)
    step = make_forward_step(evaluate=False)
    run_schedule(model, batches, MICRO_BATCHES, train=train, forward_step=step, forward_only=False)
    return {name: each.main_grad.clone() for name, each in model.named_parameters() if each.requires_grad}


def test_they_are_what_autograd_s_own_sums_are_and_no_less_exact(
    context: RankContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = build(ARCHITECTURE, ParallelismConfig(), context)
    fused = [each for each in model.modules() if getattr(each, "gradient_accumulation_fusion", False)]
    assert len(fused) == BLOCK_LINEARS
    calls: list[torch.Size] = []
    add = weight_gradients.add_product_

    def count(total: Tensor, a: Tensor, b: Tensor, *, is_first: bool) -> None:
        calls.append(total.shape)
        add(total, a, b, is_first=is_first)

    monkeypatch.setattr(weight_gradients, "add_product_", count)
    ours = run_passes(model, context)
    assert len(calls) == BLOCK_LINEARS * MICRO_BATCHES
    for linear in fused:
        linear.gradient_accumulation_fusion = False
        cache = weight_cache_of(linear)
        assert cache is not None
        cache.adds_to_main_grad = False
    theirs = run_passes(model, context)
    assert len(calls) == BLOCK_LINEARS * MICRO_BATCHES
    rounding = 1e-5 if context.params_dtype == torch.float32 else 1e-2
    for name, gradient in theirs.items():
        assert gradient.norm() > 0, name
        assert (ours[name] - gradient).norm() <= rounding * gradient.norm(), name
