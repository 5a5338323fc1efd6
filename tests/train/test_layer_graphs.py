"""Replayed layers train as layers do; on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu_step import build, stop_replaying
from qad_core.config.schema import ParallelismConfig, TrainConfig
from qad_core.kernels.nvfp4_backend import invalidate_weight_cache
from qad_core.train.batches import Batch
from qad_core.train.distill import make_forward_step
from qad_core.train.evaluate import reduce_sums, run_schedule
from qad_core.train.optim import step_if_finite
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from tests.train.test_weight_gradients import ARCHITECTURE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
STEPS, MICRO_BATCHES, TOKENS = 4, 2, 64


@pytest.fixture(scope="module")
def context() -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), device="cuda", precision="bf16")
    shut_down_parallel()


def random_batches(step: int, tokens: int) -> Iterator[Batch]:
    """Those of a step; the last of its tokens are masked."""
    generator = torch.Generator().manual_seed(step)
    mask = torch.ones(1, tokens)
    mask[:, -step:] = 0
    positions = torch.arange(tokens, device="cuda").expand(1, tokens)
    for _ in range(MICRO_BATCHES):
        ids = torch.randint(0, ARCHITECTURE.vocab_size, (1, tokens), generator=generator).to("cuda")
        yield Batch(ids, ids, mask, positions)


def train(model: Any, optimizer: Any, context: RankContext) -> list[dict[str, Tensor]]:
    """`main_grad` of every parameter at each step; the last step is of shorter sequences, which are not recorded."""
    gradients: list[dict[str, Tensor]] = []
    for step in range(1, STEPS + 2):
        tokens = TOKENS if step <= STEPS else TOKENS // 2
        model.zero_grad_buffer()
        optimizer.zero_grad()
        settings = TrainConfig(sequence_length=tokens, micro_batch_size=1)
        forward = make_forward_step(evaluate=False)
        batches = random_batches(step, tokens)
        stored = run_schedule(model, batches, MICRO_BATCHES, train=settings, forward_step=forward, forward_only=False)
        named = model.named_parameters()
        gradients.append({name: each.main_grad.clone() for name, each in named if each.requires_grad})
        num_tokens, loss_sum, _ = reduce_sums(stored, 3, context)
        step_if_finite(optimizer, loss=loss_sum / num_tokens, num_tokens=num_tokens)
        invalidate_weight_cache(model)
    return gradients


def test_gradients_of_replayed_layers_are_those_of_layers_that_run_as_they_are(context: RankContext) -> None:
    replayed = train(*build(ARCHITECTURE, ParallelismConfig(), context), context)
    model, optimizer = build(ARCHITECTURE, ParallelismConfig(), context)
    stop_replaying(model)
    run = train(model, optimizer, context)
    for step, (ours, theirs) in enumerate(zip(replayed, run, strict=True)):
        for name, gradient in theirs.items():
            assert gradient.norm() > 0, name
            assert (ours[name] - gradient).norm() <= 1e-2 * gradient.norm(), (step, name)
