"""The predicted bytes are those that the repository's own models, wrapper and optimizer really hold, on gloo ranks."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from qad_core.config.activations import Widths, saved_activations
from qad_core.config.load import load_experiment
from qad_core.config.memory import loss_scratch_bytes, optimizer_bytes
from qad_core.config.parameters import StageParameters, count_stage
from qad_core.config.schema import ArchitectureConfig, RunConfig
from qad_core.kernels.chunks import choose_chunk_tokens, plan_chunks, scratch_budget
from tests.ranks import run_on_ranks
from tests.train.held_memory import Counts, count_held_bytes

ALONE = {
    "bf16": ("train.precision=bf16",),
    "fp32": ("train.precision=fp32",),
    "recomputed": ("train.precision=bf16", "train.recompute=full"),
    "weights only": ("train.precision=bf16", "quantization.activations=false"),
    "mixture": ("train.precision=bf16", "model=tiny-moe"),
    "SmolLM2": ("train.precision=bf16", "model=smollm2-135m", "train.global_batch_size=2"),
}
IN_PAIRS = {
    "TP2": ("parallelism=tp2",),
    "TP2, sequence parallel": ("parallelism=tp2", "parallelism.sequence_parallel=true"),
    "PP2": ("parallelism=pp2",),
    "DP2": ("parallelism=dp2",),
    "EP2": ("model=tiny-moe", "parallelism.expert_model_parallel_size=2"),
    "TP2, mixture": ("model=tiny-moe", "parallelism=tp2", "parallelism.sequence_parallel=true"),
}


def config_of(*overrides: str) -> RunConfig:
    return load_experiment("tiny", overrides, {}).config


def shape_of(config: RunConfig) -> ArchitectureConfig:
    assert config.model.architecture is not None
    return config.model.architecture


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[RunConfig, list[Counts]]]:
    """What one rank holds of each config."""
    configs = [config_of(*overrides) for overrides in ALONE.values()]
    (counts,) = run_on_ranks(count_held_bytes, 1, configs)
    return {name: (configs[i], [counts[i]]) for i, name in enumerate(ALONE)}


@pytest.fixture(scope="module")
def in_pairs() -> dict[str, tuple[RunConfig, list[Counts]]]:
    """What each of two ranks holds of each config."""
    configs = [
        config_of("train.precision=bf16", "cluster=local-2-ranks", *overrides) for overrides in IN_PAIRS.values()
    ]
    ranks = run_on_ranks(count_held_bytes, 2, configs)
    return {name: (configs[i], [counts[i] for counts in ranks]) for i, name in enumerate(IN_PAIRS)}


@pytest.mark.parametrize("name", ALONE)
def test_one_rank_holds_the_predicted_bytes(name: str, alone: dict[str, tuple[RunConfig, list[Counts]]]) -> None:
    check_held(*alone[name])


@pytest.mark.parametrize("name", IN_PAIRS)
def test_each_of_two_ranks_holds_the_predicted_bytes(
    name: str, in_pairs: dict[str, tuple[RunConfig, list[Counts]]]
) -> None:
    check_held(*in_pairs[name])


def check_held(config: RunConfig, ranks: list[Counts]) -> None:
    """Parameters, gradients, states and cached weights to the byte; activations within a tenth."""
    value_bytes = 4 if config.train.precision == "fp32" else 2
    stages = config.parallelism.pipeline_model_parallel_size
    predicted = [count_stage(shape_of(config), config.parallelism, stage) for stage in range(stages)]
    for rank, counts in enumerate(ranks):
        parameters = predicted[rank * stages // len(ranks)]
        assert counts["weights"] == counts["teacher"] == parameters.all * value_bytes
        assert counts["gradients"] == parameters.all * 4
        # Each parameter starts at a multiple of 64 values, each buffer ends at one of 128.
        assert counts["gradients"] <= counts["gradient buffers"] <= 1.01 * counts["gradients"]
        assert counts["quantized weights"] == parameters.quantized * value_bytes
        activations = predicted_peak(config, value_bytes, rank * stages // len(ranks))
        assert counts["activations"] == pytest.approx(activations, rel=0.1)
    states = [optimizer_bytes(config, one, value_bytes) for one in predicted]
    # Padding at the end of a buffer can leave the last replica a little less than the others.
    assert sum(counts["optimizer"] for counts in ranks) == sum(states) * len(ranks) // stages


def predicted_peak(config: RunConfig, value_bytes: int, stage: int) -> int:
    """Most that autograd keeps: of all micro-batches on their way, and of a layer that is made anew."""
    widths = Widths.of(config, value_bytes=value_bytes, is_fused=False)
    saved = saved_activations(config, shape_of(config), widths, stage)
    in_flight = min(config.num_micro_batches, config.parallelism.pipeline_model_parallel_size - stage)
    return in_flight * saved.layers + max(in_flight * saved.ends, saved.recomputed_layer)


@pytest.mark.parametrize("vocab_rows", [151936, 151936 // 8, 49152, 512])
def test_the_losses_scratch_is_that_of_its_kernels_plan(vocab_rows: int) -> None:
    for tokens, requested in product((256, 8192, 65536), (0, 512)):
        config = config_of(f"distillation.chunk_tokens={requested}")
        chunk = choose_chunk_tokens(8 * vocab_rows, torch.device("cpu"), requested)
        ours = loss_scratch_bytes(config, vocab_rows, tokens, 2, is_gpu=False)
        assert ours == 8 * vocab_rows * min(chunk, tokens)
        if requested == 0:
            budget = scratch_budget(torch.device("cuda"), is_sharded=True)
            plan = plan_chunks(tokens, vocab_rows, 4096, torch.bfloat16, budget, makes_weight_gradient=False)
            expected = vocab_rows * (8 * min(plan.chunk_tokens, tokens) + 2 * min(plan.span_tokens, tokens))
            assert loss_scratch_bytes(config, vocab_rows, tokens, 2, is_gpu=True) == expected


def test_float32_weights_are_their_own_main_weights() -> None:
    parameters = StageParameters(dense=1000, experts=0, quantized=0)
    assert optimizer_bytes(config_of(), parameters, 2) == 12_000
    assert optimizer_bytes(config_of(), parameters, 4) == 8_000
