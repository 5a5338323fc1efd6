"""Static block scales are part of a student's state: they outlive a stop, and follow the weights to another layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.errors import ExitCode
from qad_core.run.folder import RunFolder
from tests.train.test_parallel_runs import FIVE_STEPS, WEIGHTS_ONLY, assert_same_training, layout
from tests.train.tiny_run import comparable_metrics, make_run, output_of, train

SWEPT = (*FIVE_STEPS, *WEIGHTS_ONLY, "quantization.weight_scales=mse")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> RunFolder:
    """Five steps on one rank, in one go."""
    run = make_run(tmp_path_factory.mktemp("unbroken") / "run", data_cache, SWEPT)
    assert train(run) == ExitCode.DONE, output_of(run)
    return run


def stopped_at_3(folder: Path, data_cache: Path, *overrides: str, world_size: int = 1) -> RunFolder:
    """The same run, saved and stopped after three steps."""
    run = make_run(folder, data_cache, (*SWEPT, *overrides, "train.exit_iteration=3"))
    assert train(run, world_size) == ExitCode.STOPPED_EARLY, output_of(run)
    return run


def test_a_resumed_run_has_the_quantized_weights_of_one_never_stopped(
    tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = stopped_at_3(tmp_path / "run", data_cache)
    make_run(run.path, data_cache, SWEPT)
    assert train(run) == ExitCode.DONE, output_of(run)
    assert comparable_metrics(run) == comparable_metrics(unbroken)


def test_block_scales_follow_their_weights_to_another_tp_and_pp(
    tmp_path: Path, data_cache: Path, unbroken: RunFolder
) -> None:
    run = stopped_at_3(tmp_path / "run", data_cache, *layout(tensor=2), world_size=2)
    make_run(run.path, data_cache, (*SWEPT, *layout(pipeline=2)))
    assert train(run, 2) == ExitCode.DONE, output_of(run)
    assert_same_training(run, unbroken)
