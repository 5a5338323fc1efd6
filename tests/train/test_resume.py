"""A run that was killed, stopped or cut off goes on as if it never had been."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from qad_core.errors import ExitCode
from qad_core.run.folder import RunFolder, iteration_folder
from qad_core.run.status import read_status
from qad_core.train.checkpoint import is_whole
from tests.train.tiny_run import (
    MODEL,
    comparable_metrics,
    kill_at_step,
    last_step,
    make_run,
    output_of,
    train,
)

STEPS = 8
SAVE_EVERY_3 = ("checkpoint.interval=3",)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> RunFolder:
    """The run that nothing happened to."""
    run = make_run(tmp_path_factory.mktemp("unbroken") / "run", data_cache, SAVE_EVERY_3)
    assert train(run) == ExitCode.DONE, output_of(run)
    return run


def test_a_run_killed_at_random_steps_gives_the_metrics_of_one_never_killed(
    tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = make_run(tmp_path / "run", data_cache, SAVE_EVERY_3)
    kills = random.randint(0, STEPS - 1), random.randint(4, STEPS - 1)  # the second time from a checkpoint
    for step in kills:
        kill_at_step(run, step)
    assert train(run) == ExitCode.DONE, output_of(run)
    assert comparable_metrics(run) == comparable_metrics(unbroken), f"killed at steps {kills}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_exits_3_and_the_next_start_goes_on(
    number: signal.Signals, tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = make_run(tmp_path / "run", data_cache, ("checkpoint.interval=0",))
    assert kill_at_step(run, 2, number) == ExitCode.STOPPED_EARLY, output_of(run)
    status = read_status(run.status)
    assert status is not None and (status.phase, status.reason) == ("stopped", number.name)
    assert status.checkpoint_step == status.step == last_step(run)
    assert train(run) == ExitCode.DONE, output_of(run)
    assert comparable_metrics(run) == comparable_metrics(unbroken)


def test_a_half_written_checkpoint_is_passed_over_for_the_last_whole_one(
    tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(unbroken.path, run.path)
    checkpoints = run.checkpoints(MODEL)
    torn = next(iteration_folder(checkpoints, STEPS).glob("*.distcp"))
    torn.write_bytes(torn.read_bytes()[:-100])
    assert train(run) == ExitCode.DONE, output_of(run)
    assert comparable_metrics(run) == comparable_metrics(unbroken)
    assert f"loading: {iteration_folder(checkpoints, 6)}" in output_of(run)


def test_only_the_last_checkpoints_stay_and_the_tracker_names_the_newest(unbroken: RunFolder) -> None:
    checkpoints = unbroken.checkpoints(MODEL)
    assert sorted(path.name for path in checkpoints.glob("iter_*")) == ["iter_0000006", "iter_0000008"]
    assert unbroken.tracker(MODEL).read_text() == "8"
    assert (checkpoints / "iter_0000008" / "modelopt_state").is_dir()


def test_a_disk_that_fills_while_saving_leaves_the_last_good_checkpoint(
    tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(unbroken.path, run.path)
    shutil.rmtree(iteration_folder(run.checkpoints(MODEL), STEPS))
    # 200 kB a file: enough for logs and metrics, far too little for a checkpoint.
    assert train(run, file_size_limit=200_000) == ExitCode.OUTSIDE_FAILED, output_of(run)
    status = read_status(run.status)
    assert status is not None and "could not be written" in status.error
    assert [path.name for path in run.checkpoints(MODEL).glob("iter_*")] == ["iter_0000006"]


def test_the_checkpoint_of_another_model_is_refused(tmp_path: Path, data_cache: Path, unbroken: RunFolder) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(unbroken.path, run.path)
    manifest = iteration_folder(run.checkpoints(MODEL), STEPS) / "checkpoint.json"
    saved = json.loads(manifest.read_text())
    saved["architecture"]["num_layers"] = 99
    manifest.write_text(json.dumps(saved))
    assert train(run) == ExitCode.USER_ERROR, output_of(run)
    status = read_status(run.status)
    assert status is not None and "another model" in status.error and "num_layers" in status.error


def test_a_checkpoint_with_wrong_bytes_is_named_with_the_way_on(
    tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(unbroken.path, run.path)
    damaged = iteration_folder(run.checkpoints(MODEL), STEPS) / ".metadata"
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    assert train(run) == ExitCode.USER_ERROR, output_of(run)
    status = read_status(run.status)
    assert status is not None and str(damaged.parent) in status.error and "damaged" in status.hint


@pytest.mark.parametrize("text", ["", "[]", '{"files": {}}', '{"step": 1, "architecture": {}, "files": {"lost": 1}}'])
def test_a_checkpoint_whose_manifest_is_damaged_is_not_whole(text: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text(text)
    assert not is_whole(tmp_path)


def test_a_run_folder_without_a_readable_config_is_one_message(
    tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    run.logs.mkdir(parents=True)
    run.config.write_text("model:\n\t- x")
    assert train(run) == ExitCode.USER_ERROR
    printed = output_of(run)
    assert "is not YAML" in printed and "Traceback" not in printed


def test_a_run_that_was_done_is_left_as_it_is(unbroken: RunFolder) -> None:
    before = unbroken.metrics.read_bytes()
    assert train(unbroken) == ExitCode.DONE, output_of(unbroken)
    assert unbroken.metrics.read_bytes() == before
