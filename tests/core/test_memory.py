"""What a run is predicted to hold and to take, and what would fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qad_core.commands.check import check
from qad_core.config.cost import count_arithmetic, predict_cost
from qad_core.config.devices import GIB, GPUS, Device, find_gpu
from qad_core.config.forecast import Forecast, forecast_shapes, memory_notes, memory_problems
from qad_core.config.forecast_words import cost_words, memory_words
from qad_core.config.load import load_experiment
from qad_core.config.memory import MemoryPrediction, predict_memory
from qad_core.config.parameters import count_active_parameters, count_parameters, count_stage
from qad_core.config.run_device import find_device
from qad_core.config.schema import ArchitectureConfig, ClusterConfig, ParallelismConfig, RunConfig
from qad_core.errors import ExitCode
from qad_core.launch.draft import examine_draft

QWEN3_30B_A3B = {
    "family": "qwen3_moe", "num_layers": 48, "hidden_size": 2048, "ffn_hidden_size": 6144, "num_attention_heads": 32,
    "num_query_groups": 4, "kv_channels": 128, "vocab_size": 151936, "num_moe_experts": 128, "moe_router_topk": 8,
    "moe_ffn_hidden_size": 768,
}  # fmt: skip
BILLION = 1e9


def config_of(*overrides: str) -> RunConfig:
    """Qwen3-1.7B at the recipe's lengths on one GPU, with changes."""
    return load_experiment("blank", ["model=qwen3-1.7b", "dataset=made-text", *overrides], {}).config


def shape_of(config: RunConfig) -> ArchitectureConfig:
    assert config.model.architecture is not None
    return config.model.architecture


def gpu(name: str = "h200") -> Device:
    return Device("gpu", name, int(GPUS[name].memory_gib * GIB), GPUS[name])


def memory_of(*overrides: str) -> MemoryPrediction:
    config = config_of(*overrides)
    return predict_memory(config, shape_of(config), shape_of(config), gpu())


def forecast_of(*overrides: str, device: Device) -> Forecast:
    config = config_of(*overrides)
    return forecast_shapes(config, shape_of(config), shape_of(config), device)


@pytest.mark.parametrize(
    ("model", "billions"), [("qwen3-8b", 8.19), ("qwen3-1.7b", 1.72), ("llama-3.2-1b", 1.236), ("smollm2-135m", 0.1345)]
)
def test_dense_models_have_their_published_parameters(model: str, billions: float) -> None:
    assert count_parameters(shape_of(config_of(f"model={model}"))) / BILLION == pytest.approx(billions, rel=2e-3)


def test_a_mixture_has_its_published_parameters_in_all_and_for_one_token() -> None:
    shape = ArchitectureConfig.model_validate(QWEN3_30B_A3B)
    assert count_parameters(shape) / BILLION == pytest.approx(30.5, abs=0.05)
    assert count_active_parameters(shape) / BILLION == pytest.approx(3.3, abs=0.06)


def test_the_ranks_of_a_layout_hold_all_experts_once() -> None:
    shape = ArchitectureConfig.model_validate(QWEN3_30B_A3B)
    layout = ParallelismConfig(
        tensor_model_parallel_size=4, pipeline_model_parallel_size=2, expert_model_parallel_size=8
    )
    each = sum(count_stage(shape, layout, stage).experts for stage in range(2))
    assert each * 4 * 8 == count_stage(shape, ParallelismConfig(), 0).experts


@pytest.mark.parametrize(("micro_batch_size", "peak_gib"), [(1, 45.3), (2, 53.6), (4, 70.0)])
def test_the_peaks_measured_on_one_h200_are_predicted_within_two_percent(
    micro_batch_size: int, peak_gib: float
) -> None:
    predicted = memory_of(f"train.micro_batch_size={micro_batch_size}")  # the peaks are README's, under Measured
    assert predicted.allocated / GIB == pytest.approx(peak_gib, rel=0.02)


def test_more_replicas_share_the_optimizer_and_nothing_else() -> None:
    one, eight = memory_of(), memory_of("parallelism=dp8", "cluster=h100x8")
    assert eight.held["optimizer"] == one.held["optimizer"] // 8
    assert {**eight.held, "optimizer": 0} == {**one.held, "optimizer": 0}


def test_the_first_stage_of_a_pipeline_keeps_a_micro_batch_for_each_stage() -> None:
    staged = memory_of("parallelism=pp2", "cluster=local-2-ranks")
    assert staged.stage == 0
    # Two micro-batches of half of the layers, and what stages exchange.
    assert staged.held["activations"] == pytest.approx(memory_of().held["activations"], rel=0.02)


def test_recomputation_keeps_each_layers_input_alone() -> None:
    config = config_of("train.recompute=full")
    shape, train = shape_of(config), config.train
    tokens = train.micro_batch_size * train.sequence_length
    inputs = shape.num_layers * tokens * shape.hidden_size * 2
    assert memory_of("train.recompute=full").held["activations"] == pytest.approx(inputs, rel=0.05)


def test_what_fits_is_said_to_fit_and_takes_no_change() -> None:
    forecast = forecast_of(device=gpu())
    assert (forecast.verdict, forecast.fitting) == ("fits", None)
    assert memory_problems(forecast) == memory_notes(forecast) == []


def test_one_change_that_fits_is_named_and_really_does() -> None:
    overrides = ("model=qwen3-8b", "parallelism=tp8", "cluster=h100x8", "train.micro_batch_size=16")
    forecast = forecast_of(*overrides, device=gpu("h100"))
    (problem,) = memory_problems(forecast)
    assert forecast.fitting is not None and forecast.fitting.fits is not None
    assert f"{forecast.fitting.fits.override} would fit" in problem.hint
    changed = forecast_of(*overrides, forecast.fitting.fits.override, device=gpu("h100"))
    assert changed.verdict == "fits"
    assert changed.memory.total == forecast.fitting.fits.memory.total


def test_where_no_one_change_fits_the_best_is_named() -> None:
    forecast = forecast_of("model=qwen3-8b", "train.micro_batch_size=4", device=gpu("h100"))
    (problem,) = memory_problems(forecast)
    assert "No one change fits" in problem.hint and "saves most" in problem.hint


def test_a_change_that_the_layout_forbids_is_not_named() -> None:
    shape = "model.architecture.num_query_groups=1"
    overrides = ("model=qwen3-8b", shape, "parallelism=dp8", "cluster=h100x8", "train.micro_batch_size=1")
    forecast = forecast_of(*overrides, device=gpu("h100"))
    assert forecast.fitting is not None and forecast.fitting.best is not None
    assert "tensor" not in forecast.fitting.best.override  # one group cannot be shared


def test_check_refuses_what_cannot_fit_and_shows_the_account(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = [f"train.{name}={2**18}" for name in ("micro_batch_size", "global_batch_size", "train_samples")]
    overrides = ["cluster.device=cuda", "cluster.gpu=a100-40gb", "train.precision=bf16", *sizes]
    assert check("tiny", overrides, tag=None, as_json=True) == ExitCode.USER_ERROR
    answer = json.loads(capsys.readouterr().out)
    (problem,) = answer["problems"]
    assert "each rank needs" in problem["what"] and "would fit" in problem["hint"]
    memory, cost = answer["data"]["memory"], answer["data"]["cost"]
    assert memory["verdict"] == "too large" and memory["would_fit"] in problem["hint"]
    parts = [memory["held_bytes"], memory["outside_bytes"]]
    largest = max(memory["passing_bytes"].values())
    assert memory["total_bytes"] == sum(sum(part.values()) for part in parts) + largest
    assert cost["gpu_hours"] > 0
    assert check("tiny", ["cluster.device=cuda", "cluster.gpu=a100-40gb"], tag=None, as_json=False) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "memory a rank" in shown and "optimizer" in shown and "GPU hours" in shown


def test_the_form_of_a_new_run_knows_the_same_forecast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    forecast = examine_draft("tiny", ["cluster.device=cuda", "cluster.gpu=h100"], {}).forecast
    assert forecast is not None and forecast.verdict == "fits"
    assert "GiB a rank" in memory_words(forecast) and "tokens/s" in cost_words(forecast.cost)


def test_over_the_memory_by_less_than_the_uncertainty_is_a_note() -> None:
    total = memory_of().total
    forecast = forecast_of(device=Device("gpu", "small", int(total * 0.95)))
    assert (forecast.verdict, memory_problems(forecast)) == ("tight", [])
    assert "may need" in memory_notes(forecast)[0].what


def test_an_unknown_device_gets_bytes_and_no_verdict() -> None:
    unknown: list[Any] = [ClusterConfig(kind="slurm", device="cuda"), ClusterConfig(kind="slurm", device="cpu")]
    for cluster in unknown:
        forecast = forecast_of(device=find_device(cluster))
        assert (forecast.verdict, memory_problems(forecast), forecast.fitting) == ("unknown", [], None)
        assert "not known" in memory_words(forecast) and "not known" in cost_words(forecast.cost)


def test_a_device_is_known_by_the_clusters_own_word_before_slurms() -> None:
    slurm = {"kind": "slurm", "device": "cuda", "slurm": {"gpu_type": "nvidia_h100_80gb_hbm3"}}
    assert find_device(ClusterConfig.model_validate(slurm)).gpu is GPUS["h100"]
    assert find_device(ClusterConfig.model_validate({**slurm, "gpu": "h200"})).gpu is GPUS["h200"]


@pytest.mark.parametrize(
    ("name", "memory_gib", "key"),
    [
        ("NVIDIA H100 80GB HBM3", 79.6, "h100"),
        ("NVIDIA A100-SXM4-40GB", 39.5, "a100-40gb"),
        ("a100", None, "a100-80gb"),
        ("NVIDIA GB200", 184.0, None),
        ("NVIDIA GeForce RTX 4090", 24.0, None),
    ],
)
def test_gpus_are_told_by_their_drivers_name(name: str, memory_gib: float | None, key: str | None) -> None:
    assert find_gpu(name, memory_gib) == key


def test_a_cpu_is_held_against_its_share_of_the_hosts_memory() -> None:
    one, four = (find_device(ClusterConfig(device="cpu", processes_per_node=ranks)) for ranks in (1, 4))
    assert one.memory is not None and four.memory == one.memory // 4


def test_the_measured_step_comes_back_from_its_own_efficiency() -> None:
    config = config_of("train.micro_batch_size=4", "train.global_batch_size=4")
    cost = predict_cost(config, shape_of(config), shape_of(config), gpu())
    assert cost.is_efficiency_measured and cost.seconds_per_step is not None
    assert cost.seconds_per_step == pytest.approx(0.470 + 0.028, rel=0.03)  # both passes, and the optimizer


@pytest.mark.parametrize(("ranks", "layout", "seconds"), [(1, "one-rank", 0.364), (2, "dp2", 0.204)])
def test_the_measured_steps_of_a_mixture_are_predicted_within_a_tenth(ranks: int, layout: str, seconds: float) -> None:
    config = config_of(
        "model=qwen3-30b-a3b", "model.architecture.num_layers=2", f"parallelism={layout}",
        f"parallelism.expert_model_parallel_size={ranks}", f"cluster.processes_per_node={ranks}",
        "train.micro_batch_size=2", "train.global_batch_size=8", "train.sequence_length=4096",
    )  # fmt: skip
    cost = predict_cost(config, shape_of(config), shape_of(config), gpu())
    assert cost.seconds_per_step == pytest.approx(seconds, rel=0.1)


def test_arithmetic_of_training_is_six_operations_a_weight_and_two_for_the_teacher() -> None:
    config = config_of("train.sequence_length=128")
    shape = shape_of(config)
    arithmetic = count_arithmetic(config, shape, shape)
    without_embedding = count_parameters(shape) - shape.vocab_size * shape.hidden_size
    blocks = arithmetic.teacher_forward + arithmetic.student_forward + arithmetic.student_backward
    assert blocks / 128 == pytest.approx(8 * without_embedding, rel=1e-3)
    assert arithmetic.output_layer / 128 == 8 * shape.vocab_size * shape.hidden_size


def test_recomputing_costs_a_forward_pass_and_qat_saves_the_teachers() -> None:
    shape = shape_of(config_of())
    plain, again, qat = (
        count_arithmetic(config_of(*overrides), shape, shape)
        for overrides in ((), ("train.recompute=full",), ("loss=qat",))
    )
    assert again.recomputation == plain.student_forward and qat.teacher_forward == 0
    assert again.total > plain.total > qat.total
