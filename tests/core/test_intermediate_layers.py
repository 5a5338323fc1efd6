"""Pairs of layers that are compared inside the two models: how they are written, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.config.checks import check_experiment
from qad_core.config.experiment_file import experiment_text
from qad_core.config.fields import FIELDS
from qad_core.config.forecast import forecast_run
from qad_core.config.intermediate_layers import LayerPair, name_on_stage, read_pairs
from qad_core.config.load import dump_resolved, load_experiment, read_resolved
from qad_core.config.value_text import value_text
from qad_core.config.values import parse_value
from tests.core.test_config_checks import QWEN, make_folder

KEY = "distillation.intermediate_layers"
PAIRS = (
    ("decoder.layers.3", "decoder.layers.3"),
    ("decoder.layers.2.mlp", "decoder.layers.3.mlp", "mse"),
    ("decoder.final_layernorm", "decoder.final_layernorm", "cosine"),
)
AS_OVERRIDE = (
    f"{KEY}=[[decoder.layers.3, decoder.layers.3], [decoder.layers.2.mlp, decoder.layers.3.mlp, mse],"
    " [decoder.final_layernorm, decoder.final_layernorm, cosine]]"
)
PP2 = "parallelism=pp2 cluster=local-2-ranks train.micro_batch_size=4"


@pytest.fixture(autouse=True)
def a_working_directory_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def problems_of(*overrides: str) -> list[tuple[str, str]]:
    found = check_experiment("tiny", overrides, {})[1]
    assert all(problem.hint for problem in found)
    return [(problem.what, problem.where) for problem in found]


def test_pairs_of_a_kd_config_are_those_of_the_config() -> None:
    Path("kd.yaml").write_text(
        "intermediate_layer_pairs:\n"
        "  - [decoder.layers.3, decoder.layers.3]\n"
        "  - [decoder.layers.2.mlp, decoder.layers.3.mlp, mse]\n"
        "  - ['decoder.final_layernorm', 'decoder.final_layernorm', cosine]\n"
    )
    assert problems_of("distillation.config=kd.yaml") == problems_of(AS_OVERRIDE) == []
    for overrides in ("distillation.config=kd.yaml", AS_OVERRIDE):
        resolved = load_experiment("tiny", (overrides,), {})
        assert resolved.config.distillation.intermediate_layers == PAIRS
        Path("resolved.yaml").write_text(dump_resolved(resolved))
        assert read_resolved(Path("resolved.yaml")).config == resolved.config


def test_a_pair_is_compared_by_the_cosine_unless_it_says_otherwise() -> None:
    assert [pair.loss for pair in read_pairs(PAIRS)] == ["cosine", "mse", "cosine"]
    assert read_pairs(PAIRS[:1]) == [LayerPair("decoder.layers.3", "decoder.layers.3", "cosine")]


def test_pairs_have_a_text_that_reads_as_them() -> None:
    found = parse_value(value_text(PAIRS), FIELDS[KEY])
    assert found == [list(pair) for pair in PAIRS]
    Path("saved.yaml").write_text(experiment_text("tiny", (AS_OVERRIDE,), {}))
    assert load_experiment("saved.yaml", (), {}).config.distillation.intermediate_layers == PAIRS


@pytest.mark.parametrize(
    ("name", "on_stage"),
    [
        ("decoder.layers.12.mlp", "decoder.layers.2.mlp"),
        ("decoder.layers.10", "decoder.layers.0"),
        ("decoder.final_layernorm", "decoder.final_layernorm"),
    ],
)
def test_megatron_counts_layers_from_the_stages_first(name: str, on_stage: str) -> None:
    assert name_on_stage(name, 10) == on_stage


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ("[[decoder.layers.1]]", "1 texts, where [student's layer, teacher's layer]"),
        ("[decoder.layers.1, decoder.layers.1]", "should be a valid tuple"),
        ("[[decoder.layers.1, output_layer]]", "'output_layer' is no layer to compare"),
        ("[[decoder.layers.1.mlp.linear_fc1, decoder.layers.1]]", "is no layer to compare"),
        ("[[decoder.layers.1, decoder.layers.1, l1]]", "'l1' is no loss between layers: they are cosine and mse"),
    ],
)
def test_what_is_no_pair_of_layers_is_refused(pairs: str, named: str) -> None:
    whats = {what for what, _ in problems_of(f"{KEY}={pairs}")}
    assert any(named in what for what in whats)


@pytest.mark.parametrize(
    ("pairs", "others", "named", "key"),
    [
        ("[[decoder.layers.4, decoder.layers.3]]", "", "decoder.layers.4 is no layer of the student, which has 4", KEY),
        ("[[decoder.layers.3, decoder.layers.9.mlp]]", "", "decoder.layers.9.mlp is no layer of the teacher", KEY),
        ("[[decoder.layers.1, decoder.layers.1], [decoder.layers.1, decoder.layers.1, mse]]", "",
         "the pair decoder.layers.1, decoder.layers.1 is given more than once", KEY),
        ("[[decoder.layers.1, decoder.layers.1]]", "loss=qat", "which loss qat does not train on", "loss"),
        ("[[decoder.layers.1, decoder.layers.1]]", "model.teacher_weights=wide",
         "the student is 128 wide and the teacher 256", "model.teacher_weights"),
        ("[[decoder.layers.1, decoder.layers.0]]", PP2,
         "lies on pipeline stage 0, but layers are compared where the loss is, on stage 1",
         "parallelism.pipeline_model_parallel_size"),
        ("[[decoder.layers.1, decoder.layers.2]]", PP2, "lies on pipeline stages 0 and 1", KEY),
    ],
)  # fmt: skip
def test_pairs_that_the_models_or_the_layout_cannot_have_are_refused(
    pairs: str, others: str, named: str, key: str
) -> None:
    make_folder("wide", QWEN | {"hidden_size": 256, "intermediate_size": 512})
    ((what, where),) = problems_of(f"{KEY}={pairs}", *others.split())
    assert named in what and key in where


def test_layers_of_the_last_stage_may_be_compared() -> None:
    pairs = "[[decoder.layers.2, decoder.layers.3], [decoder.final_layernorm, decoder.final_layernorm]]"
    assert problems_of(f"{KEY}={pairs}", *PP2.split()) == []


def test_compared_layers_are_part_of_the_predicted_memory() -> None:
    config = load_experiment("tiny", (AS_OVERRIDE, "train.precision=fp32"), {}).config
    forecast = forecast_run(config)
    assert forecast is not None
    values = config.train.micro_batch_size * config.train.sequence_length * 128
    assert forecast.memory.held["compared layers"] == 3 * 4 * values
