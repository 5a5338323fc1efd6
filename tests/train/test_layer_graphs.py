"""Replayed layers train as layers do, on a GPU; what a recording is made of gives the right gradients anywhere."""

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
from qad_core.train.distill import make_forward_step, unwrap
from qad_core.train.evaluate import reduce_sums, run_schedule
from qad_core.train.layer_graphs import _Layer, _Twins
from qad_core.train.optim import step_if_finite
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from tests.train.test_weight_gradients import ARCHITECTURE

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS, MICRO_BATCHES, TOKENS = 4, 2, 64


@pytest.fixture(scope="module")
def context() -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), device=DEVICE, precision="bf16")
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


@on_a_gpu
def test_gradients_of_replayed_layers_are_those_of_layers_that_run_as_they_are(context: RankContext) -> None:
    replayed = train(*build(ARCHITECTURE, ParallelismConfig(), context), context)
    model, optimizer = build(ARCHITECTURE, ParallelismConfig(), context)
    stop_replaying(model)
    run = train(model, optimizer, context)
    for step, (ours, theirs) in enumerate(zip(replayed, run, strict=True)):
        for name, gradient in theirs.items():
            assert gradient.norm() > 0, name
            assert (ours[name] - gradient).norm() <= 1e-2 * gradient.norm(), (step, name)


def test_a_layer_s_twins_bring_its_parameters_gradients_and_the_wrapper_adds_none_again(context: RankContext) -> None:
    model, _ = build(ARCHITECTURE, ParallelismConfig(), context)
    module = unwrap(model).decoder.layers[0]
    if "forward" in vars(module):
        del module.forward
    layer = _Layer(model, module)
    hidden_states = torch.randn(TOKENS, 1, ARCHITECTURE.hidden_size, device=DEVICE, dtype=torch.bfloat16)
    upstream = torch.randn_like(hidden_states)
    angles = torch.zeros(TOKENS, 1, 1, ARCHITECTURE.kv_channels, device=DEVICE)
    options = {"attention_mask": None, "rotary_pos_emb": angles}

    entering = hidden_states.clone().requires_grad_()
    model.zero_grad_buffer()
    layer.forward(hidden_states=entering, **options)[0].backward(upstream)
    expected = [parameter.main_grad.clone() for parameter in layer.parameters]

    model.zero_grad_buffer()
    twins = _Twins(layer)
    with twins.in_place():
        again = hidden_states.clone().requires_grad_()
        output, _ = layer.forward(hidden_states=again, **options)
    assert torch.equal(twins.backward(again, output, upstream), entering.grad)  # pyright: ignore[reportArgumentType]
    layer.tell_of_gradients()
    for parameter, gradient in zip(layer.parameters, expected, strict=True):
        assert gradient.norm() > 0
        assert torch.equal(parameter.main_grad, gradient)
        assert parameter.grad is None
