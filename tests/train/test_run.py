"""One run from its config to its end: what it learns, writes and refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qad_core.errors import ExitCode
from qad_core.run.folder import RunFolder, iteration_folder
from qad_core.run.metrics import EVALUATION_KEYS, TRAINING_KEYS, MetricsLine, read_metrics
from qad_core.run.status import read_status
from tests.train.tiny_run import MODEL, last_step, losses_of, make_run, output_of, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> RunFolder:
    """The tiny experiment as it is shipped, but for its longer sequences."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    run = make_run(folder, data_cache, ("train.train_samples=320", "evaluation.interval=20"))
    assert train(run) == ExitCode.DONE, output_of(run)
    return run


def evaluations(run: RunFolder) -> list[MetricsLine]:
    return [line for line in read_metrics(run.metrics) if "eval/kl" in line]


def test_distillation_wins_back_a_part_of_what_quantization_lost(run: RunFolder) -> None:
    kl = [float(line["eval/kl"] or 0.0) for line in evaluations(run)]
    assert kl[0] > 0 and kl[-1] < 0.8 * kl[0]
    losses = losses_of(run)
    assert sum(losses[-5:]) < sum(losses[:5])


def test_metrics_hold_every_promised_key_and_evaluations_are_at_the_start_on_the_way_and_at_the_end(
    run: RunFolder,
) -> None:
    steps = [line for line in read_metrics(run.metrics) if "loss/kd" in line]
    assert [line["step"] for line in steps] == list(range(1, 41))
    assert all(tuple(line) == TRAINING_KEYS for line in steps)
    assert [line["step"] for line in evaluations(run)] == [0, 20, 40]
    assert all(tuple(line) == EVALUATION_KEYS for line in evaluations(run))
    assert [line["eval/tokens"] for line in evaluations(run)] == [4 * 32] * 3


def test_tensorboard_shows_the_same_values_under_megatrons_names(run: RunFolder) -> None:
    events = EventAccumulator(str(run.tensorboard(MODEL)))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("logits distillation loss")}
    assert list(shown.values()) == pytest.approx(losses_of(run))
    assert {"learning-rate", "grad-norm", "lm loss validation"} <= set(events.Tags()["scalars"])


def test_the_end_is_in_the_status_and_a_person_can_read_the_log(run: RunFolder) -> None:
    status = read_status(run.status)
    assert status is not None
    assert (status.phase, status.step, status.exit_code, status.checkpoint_step) == ("done", 40, 0, 40)
    log = next(run.logs.glob("tiny_qad_*.log")).read_text()
    assert "iteration 40/40" in log and "evaluation at step 0" in log


def test_no_secret_reaches_the_environment_log(
    tmp_path: Path, data_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hf_verysecret@proxy")
    monkeypatch.setenv("QAD_API_KEY", "hf_verysecret")
    run = make_run(tmp_path / "run", data_cache, ("train.exit_iteration=1",))
    assert train(run) == ExitCode.STOPPED_EARLY, output_of(run)
    assert "hf_verysecret" not in "".join(path.read_text() for path in run.logs.iterdir())
    environment = next(run.logs.glob("*.env.log")).read_text()
    assert "HF_TOKEN=(not shown)" in environment and "WORLD_SIZE=1" in environment


def test_a_run_that_stopped_at_its_exit_iteration_stays_there(tmp_path: Path, data_cache: Path) -> None:
    run = make_run(tmp_path / "run", data_cache, ("train.exit_iteration=1",))
    for _ in range(2):
        assert train(run) == ExitCode.STOPPED_EARLY, output_of(run)
    assert last_step(run) == 1
    status = read_status(run.status)
    assert status is not None and (status.step, status.checkpoint_step) == (1, 1)


def test_an_unquantized_student_is_its_teacher_exactly(tmp_path: Path, data_cache: Path) -> None:
    run = make_run(tmp_path / "run", data_cache, ("quantization.format=none", "train.exit_iteration=1"))
    assert train(run) == ExitCode.STOPPED_EARLY, output_of(run)
    first = evaluations(run)[0]
    assert first["eval/kl"] == 0.0 and first["eval/top1_agreement"] == 1.0
    assert losses_of(run) == [0.0]


def test_qat_is_one_word_away_and_trains_on_cross_entropy(tmp_path: Path, data_cache: Path) -> None:
    run = make_run(tmp_path / "run", data_cache, ("loss=qat",))
    assert train(run) == ExitCode.DONE, output_of(run)
    steps = [line for line in read_metrics(run.metrics) if "loss/ce" in line]
    assert len(steps) == 8 and all(line["loss/kd"] is None for line in steps)
    first, *_, last = evaluations(run)
    assert float(last["eval/ce"] or 0) < float(first["eval/ce"] or 0)


def test_skipped_iterations_take_their_data_and_change_no_weight(tmp_path: Path, data_cache: Path) -> None:
    run = make_run(tmp_path / "run", data_cache, ("train.iterations_to_skip=[1,2]", "train.train_samples=16"))
    assert train(run) == ExitCode.DONE, output_of(run)
    first, second = evaluations(run)
    assert first["eval/kl"] == second["eval/kl"]
    steps = [line for line in read_metrics(run.metrics) if "loss/kd" in line]
    seen = [(line["loss/kd"], line["tokens_per_s"], line["skipped"], line["consumed_samples"]) for line in steps]
    assert seen == [(None, None, 1, 8), (None, None, 1, 16)]


def test_three_losses_that_are_not_finite_end_the_run_with_the_state_from_before_them(
    tmp_path: Path, data_cache: Path
) -> None:
    # The first step at this rate throws the weights beyond what float32 can square.
    run = make_run(tmp_path / "run", data_cache, ("train.learning_rate=1e30", "train.precision=fp32"))
    assert train(run) == ExitCode.BUG, output_of(run)
    steps = [line for line in read_metrics(run.metrics) if "loss/kd" in line]
    assert [bool(line["skipped"]) for line in steps[-3:]] == [True] * 3
    assert all(not math.isfinite(float(line["grad_norm"] or 0)) for line in steps[-3:])
    assert not math.isfinite(float(steps[-1]["loss/kd"] or 0))
    status = read_status(run.status)
    assert status is not None and status.phase == "failed" and "not finite" in status.error
    assert iteration_folder(run.checkpoints(MODEL), last_step(run) - 3).is_dir()
