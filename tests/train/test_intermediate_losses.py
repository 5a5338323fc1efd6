"""Losses between layers inside the two models: what is trained on, against autograd, and under every layout."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from modelopt.torch.distill.plugins.megatron import LogitsAndIntermediatesLossBalancer
from torch import Tensor

from qad_core.config.load import read_resolved
from qad_core.config.schema import DistillationConfig, ParallelismConfig
from qad_core.models.spec import HiddenStatesGPTModel
from qad_core.run.events import read_event_lines
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import read_metrics
from qad_core.train import distill, loop
from qad_core.train.batches import Batch
from qad_core.train.distill import convert_to_distillation_model, make_forward_step
from qad_core.train.no_cuda import install_cpu_stand_ins
from qad_core.train.parallel import RankContext, initialize_parallel, shut_down_parallel
from qad_core.train.report import Reporter
from qad_core.train.session import build_session
from tests.models.small_models import QWEN3, load_model, make_positions, make_tokens
from tests.ranks import run_on_ranks
from tests.train.test_parallel_runs import WEIGHTS_ONLY, assert_same_training, layout, trained
from tests.train.tiny_run import make_run

PAIRS = (
    ("decoder.layers.0", "decoder.layers.1"),
    ("decoder.layers.0", "decoder.layers.0", "mse"),  # a layer may be in several pairs
    ("decoder.layers.1.self_attention", "decoder.layers.1.self_attention", "cosine"),
    ("decoder.layers.1.input_layernorm", "decoder.layers.0.input_layernorm"),
    ("decoder.layers.0.pre_mlp_layernorm", "decoder.layers.0.pre_mlp_layernorm", "mse"),
    ("decoder.layers.1.mlp", "decoder.layers.0.mlp", "mse"),
    ("decoder.final_layernorm", "decoder.final_layernorm"),
)
ON_THE_LAST_STAGE = (
    "distillation.intermediate_layers=[[decoder.layers.2, decoder.layers.3], [decoder.layers.3.mlp, "
    "decoder.layers.3.mlp, mse], [decoder.final_layernorm, decoder.final_layernorm]]",
)
ONE_RANK = ParallelismConfig()
PLAIN_LOSS = DistillationConfig(temperature=1.5, intermediate_layers=PAIRS)
WITH_CROSS_ENTROPY = PLAIN_LOSS.model_copy(update={"skip_lm_loss": False, "kd_loss_scale": 0.3})


@pytest.fixture
def context() -> Iterator[RankContext]:
    """One rank, in float32."""
    yield initialize_parallel(ONE_RANK, device="cpu", precision="fp32")
    shut_down_parallel()


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> RunFolder:
    """Five steps on one rank, W4A16."""
    folder = tmp_path_factory.mktemp("one_rank") / "run"
    return trained(folder, data_cache, (*WEIGHTS_ONLY, *ON_THE_LAST_STAGE))


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_gradients_are_those_of_autograd_with_modelopts_balance(
    context: RankContext, recompute: Literal["none", "full"]
) -> None:
    found, told = gradients_of_training(context, PLAIN_LOSS, recompute)
    reference = Reference(context, PLAIN_LOSS)
    balanced = LogitsAndIntermediatesLossBalancer(skip_original_loss=True)(
        {"student_loss": reference.kl.new_zeros(()), "LogitsKLLoss_0": reference.kl}
        | {f"layers_{number}": loss for number, loss in enumerate(reference.layers)}
    )
    mean = torch.stack(reference.layers).mean()
    assert told == pytest.approx([float(value) for value in (2 * reference.kl, reference.kl, mean)], rel=1e-4)
    assert_same_gradients(found, reference.gradients(balanced["kd_loss"]))


def test_beside_a_cross_entropy_layers_weigh_what_the_kl_does(context: RankContext) -> None:
    found, told = gradients_of_training(context, WITH_CROSS_ENTROPY)
    reference = Reference(context, WITH_CROSS_ENTROPY)
    mean = torch.stack(reference.layers).mean()
    total = reference.cross_entropy + 0.3 * (reference.kl + mean * (reference.kl / mean).detach())
    assert told == pytest.approx([float(value) for value in (total, reference.kl, mean)], rel=1e-4)
    assert_same_gradients(found, reference.gradients(total))


def test_a_micro_batch_without_a_counted_token_teaches_nothing(context: RankContext) -> None:
    found, told = gradients_of_training(context, PLAIN_LOSS, mask=torch.zeros(2, 24))
    assert told == [0, 0, 0]
    assert not any(gradient.any() for gradient in found.values())


def test_equal_models_have_no_loss_and_no_gradient_to_speak_of(context: RankContext) -> None:
    pairs = DistillationConfig(intermediate_layers=tuple((*pair[:1], *pair[:1], "mse") for pair in PAIRS))
    found, told = gradients_of_training(context, pairs, noise=0.0)
    assert told == pytest.approx([0, 0, 0], abs=1e-4)
    assert max(float(gradient.abs().max()) for gradient in found.values()) < 1e-4


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(layout(tensor=2), id="TP2"),
        pytest.param(layout(tensor=2, sequence_parallel=True), id="TP2-sequence-parallel"),
        pytest.param(layout(pipeline=2), id="PP2"),
        pytest.param(layout(data=2), id="DP2"),
    ],
)
def test_every_layout_gives_the_single_ranks_losses(
    overrides: tuple[str, ...], tmp_path: Path, data_cache: Path, one_rank: RunFolder
) -> None:
    run = trained(tmp_path / "run", data_cache, (*WEIGHTS_ONLY, *ON_THE_LAST_STAGE, *overrides), world_size=2)
    assert_same_training(run, one_rank)
    assert told_of_layers(run) == pytest.approx(told_of_layers(one_rank), rel=1e-4)


def test_shards_of_a_sequence_count_their_own_part_of_the_mask(context: RankContext) -> None:
    sharded = ParallelismConfig(tensor_model_parallel_size=2, sequence_parallel=True)
    _, told = gradients_of_training(context, PLAIN_LOSS)
    for told_there in run_on_ranks(told_on_ranks, 2, sharded):
        assert told_there == pytest.approx(told, rel=1e-4)


def test_a_step_tells_the_kl_and_the_layers_apart_and_evaluates_the_kl_alone(
    tmp_path: Path, data_cache: Path, one_rank: RunFolder
) -> None:
    without = trained(tmp_path / "run", data_cache, WEIGHTS_ONLY)
    evaluated, plain = read_metrics(one_rank.metrics)[0], read_metrics(without.metrics)[0]
    assert evaluated["eval/kl"] == plain["eval/kl"]
    first, first_plain = read_metrics(one_rank.metrics)[1], read_metrics(without.metrics)[1]
    assert first["loss/kd"] == first_plain["loss/kd"] and first["grad_norm"] != first_plain["grad_norm"]
    assert float(first["loss/intermediate"] or 0) > 0 and "loss/intermediate" not in first_plain
    told = [line["loss/intermediate"] for line in read_event_lines(one_rank.path) if "loss/intermediate" in line]
    assert told == pytest.approx(told_of_layers(one_rank))


def test_a_step_whose_cross_entropy_alone_is_not_finite_changes_no_weight(tmp_path: Path, data_cache: Path) -> None:
    overrides = ("train.train_samples=16", "distillation.skip_lm_loss=false", "distillation.kd_loss_scale=0.5")
    run = make_run(tmp_path / "run", data_cache, overrides)
    kl, grad_norm, skipped = run_on_ranks(step_with_a_broken_cross_entropy, 1, str(run.path))[0]
    assert 0 < kl < torch.inf and 0 < grad_norm < torch.inf
    assert skipped == 1


def step_with_a_broken_cross_entropy(path: str) -> tuple[Any, Any, Any]:
    """(KL, gradient norm, whether no weight changed) of one step."""
    install_cpu_stand_ins()
    folder = RunFolder(Path(path))
    config = read_resolved(folder.config).config
    rank = initialize_parallel(config.parallelism, device="cpu", precision="fp32")
    session = build_session(config, rank, folder, Reporter(folder, config, rank=0, started=time.time()))
    original = distill.cross_entropy_from_hidden_states
    distill.cross_entropy_from_hidden_states = lambda *values, **options: original(*values, **options) + torch.nan
    numbers = loop.queue_step(session).numbers
    assert numbers is not None
    grad_norm, skipped, kl = numbers.read()
    return kl, grad_norm, skipped


def told_of_layers(run: RunFolder) -> list[float]:
    """What each step told of the compared layers."""
    return [float(line["loss/intermediate"] or 0) for line in read_metrics(run.metrics) if "loss/intermediate" in line]


def make_models(
    context: RankContext,
    recompute: Literal["none", "full"] = "none",
    noise: float = 0.05,
    parallelism: ParallelismConfig = ONE_RANK,
) -> tuple[HiddenStatesGPTModel, HiddenStatesGPTModel]:
    """A student near its teacher; how near each weight is hangs on its value alone, so that shards agree."""
    student = load_model("random", QWEN3, parallelism, context, recompute)
    teacher = load_model("random", QWEN3, parallelism, context)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_((1000 * parameter).sin(), alpha=noise)
    return student, teacher


def told_on_ranks(parallelism: ParallelismConfig) -> list[float]:
    """What a rank of a layout was told of one micro-batch, some of whose tokens count."""
    install_cpu_stand_ins()
    rank = initialize_parallel(parallelism, device="cpu", precision="fp32")
    return gradients_of_training(rank, PLAIN_LOSS, parallelism=parallelism)[1]


def make_batch(mask: Tensor | None = None) -> Batch:
    tokens = make_tokens(QWEN3)
    if mask is None:
        mask = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(4)).round(decimals=1)
        mask[:, :3] = 0
    return Batch(tokens, tokens.roll(-1, 1), mask, make_positions(tokens))


def gradients_of_training(
    context: RankContext,
    distillation: DistillationConfig,
    recompute: Literal["none", "full"] = "none",
    *,
    noise: float = 0.05,
    mask: Tensor | None = None,
    parallelism: ParallelismConfig = ONE_RANK,
) -> tuple[dict[str, Tensor], list[float]]:
    """(gradients by the student's weights, what was told) of one micro-batch."""
    student, teacher = make_models(context, recompute, noise, parallelism)
    model = convert_to_distillation_model(student, teacher, objective="qad", distillation=distillation)
    model.train()
    output, loss_of = make_forward_step(evaluate=False)(iter([make_batch(mask)]), model)
    loss, _, told = loss_of(output)
    loss.backward()
    found = {name: weight.grad for name, weight in student.named_parameters() if weight.grad is not None}
    return found, told["sums"][1:].tolist()


class Reference:
    """The same losses in plain torch and float64, with graphs from end to end."""

    def __init__(self, context: RankContext, distillation: DistillationConfig) -> None:
        self._student, teacher = (model.double() for model in make_models(context))
        batch = make_batch()
        mask = batch.loss_mask.t().double()  # [s, b]
        kept_of_student, kept_of_teacher = _keep_outputs(self._student, 0), _keep_outputs(teacher, 1)
        with torch.no_grad():
            target = teacher(batch.tokens, batch.position_ids, None) @ teacher.output_weight().t()
        logits = self._student(batch.tokens, batch.position_ids, None) @ self._student.output_weight().t()  # [s, b, V]
        values, target = ((item / distillation.temperature).log_softmax(-1) for item in (logits, target))
        kl = F.kl_div(values, target, log_target=True, reduction="none").sum(-1)  # [s, b]
        self.kl = (kl * mask).sum()
        cross_entropy = F.cross_entropy(logits.flatten(0, 1), batch.labels.t().flatten(), reduction="none")
        self.cross_entropy = (cross_entropy * mask.flatten()).sum()
        self.layers = [
            ((s - t).square().mean(-1) * mask).sum()
            if pair[2:] == ("mse",)
            else ((1 - F.cosine_similarity(s, t, dim=-1)) * mask).sum()
            for pair, s, t in zip(PAIRS, kept_of_student, kept_of_teacher, strict=True)
        ]

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """Of a loss made of these."""
        names, weights = zip(*self._student.named_parameters(), strict=True)
        return dict(zip(names, torch.autograd.grad(loss, weights), strict=True))


def _keep_outputs(model: HiddenStatesGPTModel, side: int) -> list[Tensor]:
    """The output of each pair's module, in the order of the pairs, once the model has run."""
    kept: list[Any] = [None] * len(PAIRS)

    def keep(number: int, output: Any) -> None:
        kept[number] = (output[0] if isinstance(output, tuple) else output).clone()

    for number, pair in enumerate(PAIRS):
        module = model.get_submodule(pair[side])
        module.register_forward_hook(lambda _module, _inputs, output, number=number: keep(number, output))
    return kept


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Each gradient is that of the reference, to a share of its own norm."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (found[name].double() - gradient).norm() / gradient.norm()
        assert error < 1e-4, f"{name}: {float(error):.1e}"
