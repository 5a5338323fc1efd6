from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from megatron.core import parallel_state

from qad_core.config.schema import ArchitectureConfig, ParallelismConfig
from qad_core.errors import ModelError
from qad_core.models.arch import make_transformer_config
from qad_core.models.spec import build_gpt_model
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from tests.models.small_models import (
    ARCHITECTURES,
    LLAMA,
    QWEN3,
    compute_logits,
    load_model,
    make_positions,
    make_tokens,
    save_transformers_model,
)
from tests.ranks import run_on_ranks

Answers = dict[tuple[str, str], torch.Tensor | None]

TENSOR_PARALLEL = ParallelismConfig(tensor_model_parallel_size=2)
LAYOUTS = {
    "tensor parallel": TENSOR_PARALLEL,
    "sequence parallel": TENSOR_PARALLEL.model_copy(update={"sequence_parallel": True}),
    "pipeline parallel": ParallelismConfig(pipeline_model_parallel_size=2),
}


@pytest.fixture(scope="module")
def context() -> Iterator[RankContext]:
    yield initialize_parallel(ParallelismConfig(), device="cpu", precision="fp32")
    shut_down_parallel()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path, context: RankContext) -> None:
    architecture = ARCHITECTURES[name]
    expected = save_transformers_model(architecture, tmp_path)
    logits = compute_logits(load_model(tmp_path, architecture, ParallelismConfig(), context), make_tokens(architecture))
    assert_same_logits(logits, expected)


@dataclass(frozen=True)
class Case:
    """Weights that every layout must turn into the same logits."""

    weights: Path | str
    architecture: ArchitectureConfig
    expected: torch.Tensor


CASES = ("qwen3, tied", "llama, untied", "random")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, context: RankContext) -> dict[str, Case]:
    random = compute_logits(load_model("random", QWEN3, ParallelismConfig(), context), make_tokens(QWEN3))
    cases = {"random": Case("random", QWEN3, random)}
    for name in ("qwen3, tied", "llama, untied"):
        folder, architecture = tmp_path_factory.mktemp("model"), ARCHITECTURES[name]
        cases[name] = Case(folder, architecture, save_transformers_model(architecture, folder))
    return cases


@pytest.fixture(scope="module")
def logits_of_ranks(cases: dict[str, Case]) -> list[Answers]:
    """Both ranks' answers to every layout and case, in one start of the processes."""
    return run_on_ranks(_compute_logits_of_layouts, 2, cases)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_ranks_give_the_logits_of_one(
    layout: str, name: str, cases: dict[str, Case], logits_of_ranks: list[Answers]
) -> None:
    first, last = (answers[layout, name] for answers in logits_of_ranks)
    assert last is not None
    assert_same_logits(last, cases[name].expected)
    if layout == "pipeline parallel":
        assert first is None
    else:
        assert first is not None and torch.equal(first, last)


def test_random_weights_are_far_from_uniform(cases: dict[str, Case]) -> None:
    entropy = torch.distributions.Categorical(logits=cases["random"].expected).entropy().mean()
    assert 0.3 < entropy / math.log(QWEN3.vocab_size) < 0.9


def test_the_model_ends_at_its_hidden_states(context: RankContext) -> None:
    model = load_model("random", QWEN3, ParallelismConfig(), context)
    tokens = make_tokens(QWEN3)
    hidden_states = model(tokens, make_positions(tokens), None)
    assert hidden_states.shape == (tokens.shape[1], tokens.shape[0], QWEN3.hidden_size)
    assert model.output_weight().shape == (QWEN3.vocab_size, QWEN3.hidden_size)


def test_full_recompute_gives_the_same_gradients(context: RankContext) -> None:
    gradients: list[dict[str, torch.Tensor]] = []
    tokens = make_tokens(QWEN3)
    for recompute in ("none", "full"):
        model = load_model("random", QWEN3, ParallelismConfig(), context, recompute).train()
        model(tokens, make_positions(tokens), None).square().sum().backward()
        gradients.append({key: value.grad for key, value in model.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][key], gradients[1][key]) for key in gradients[0])


def test_attention_does_not_look_ahead(context: RankContext) -> None:
    model = load_model("random", QWEN3, ParallelismConfig(), context)
    tokens = make_tokens(QWEN3)
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % QWEN3.vocab_size
    before, after = compute_logits(model, tokens), compute_logits(model, changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize(
    "rope_scaling",
    [
        {"rope_type": "yarn", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 4096,
        },
    ],
)
def test_a_rope_scaling_that_megatron_cannot_compute_is_refused(
    rope_scaling: dict[str, float | str], context: RankContext
) -> None:
    architecture = LLAMA.model_copy(update={"rope_scaling": rope_scaling})
    config = make_transformer_config(architecture, ParallelismConfig(), params_dtype=torch.float32)
    with pytest.raises(ModelError, match="rope_scaling"):
        build_gpt_model(architecture, config, context)


def assert_same_logits(logits: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))
    assert (logits - expected).abs().max() < 1e-4
    assert expected.std() > 0.5  # else the two checks above would say little


def _compute_logits_of_layouts(cases: dict[str, Case]) -> Answers:
    answers: Answers = {}
    for layout, parallelism in LAYOUTS.items():
        context = initialize_parallel(parallelism, device="cpu", precision="fp32", timeout_minutes=1)
        for name, case in cases.items():
            answers[layout, name] = _compute_logits_of_stages(case, parallelism, context)
        dist.barrier()
        parallel_state.destroy_model_parallel()  # the ranks stay joined for the next layout
    shut_down_parallel()
    return answers


@torch.no_grad()
def _compute_logits_of_stages(case: Case, parallelism: ParallelismConfig, context: RankContext) -> torch.Tensor | None:
    """The last stage's logits; None on earlier stages."""
    model = load_model(case.weights, case.architecture, parallelism, context)
    tokens = make_tokens(case.architecture)
    if context.is_last_stage and not context.is_first_stage:
        received = torch.empty(tokens.shape[1], tokens.shape[0], case.architecture.hidden_size)
        dist.recv(received, src=context.rank - 1)
        model.set_input_tensor(received)
    output = model(tokens, make_positions(tokens), None)
    if context.is_last_stage:
        return model.logits(output)
    dist.send(output, dst=context.rank + 1)
    return None
