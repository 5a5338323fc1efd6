"""Every layout over ranks trains the same run, and a run may change its layout at a resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.errors import ExitCode
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import read_metrics
from tests.train.tiny_run import losses_of, make_run, output_of, train

FIVE_STEPS = (
    "train.train_samples=40",
    "train.precision=fp32",
    # A fake-quantized value flips to its neighbour when a sum is rounded otherwise; at a small learning
    # rate such flips stay few, so that what is compared is the layouts' arithmetic.
    "train.learning_rate=1e-5",
    "train.micro_batch_size=2",
    "evaluation.interval=0",
    "checkpoint.interval=0",
)
TOLERANCE = 1e-4


def layout(tensor: int = 1, pipeline: int = 1, data: int = 1, *, sequence_parallel: bool = False) -> tuple[str, ...]:
    """Overrides of one layout."""
    return (
        f"parallelism.tensor_model_parallel_size={tensor}",
        f"parallelism.pipeline_model_parallel_size={pipeline}",
        f"parallelism.sequence_parallel={str(sequence_parallel).lower()}",
        f"cluster.processes_per_node={tensor * pipeline * data}",
    )


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> RunFolder:
    """Five steps on one rank."""
    run = make_run(tmp_path_factory.mktemp("one_rank") / "run", data_cache, FIVE_STEPS)
    assert train(run) == ExitCode.DONE, output_of(run)
    assert len(losses_of(run)) == 5
    return run


@pytest.mark.parametrize(
    ("overrides", "world_size"),
    [
        pytest.param(layout(data=2), 2, id="DP2"),
        pytest.param(layout(tensor=2), 2, id="TP2"),
        pytest.param(layout(tensor=2, sequence_parallel=True), 2, id="TP2-sequence-parallel"),
        pytest.param(layout(pipeline=2), 2, id="PP2"),
        pytest.param(layout(tensor=2, pipeline=2), 4, id="TP2xPP2"),
    ],
)
def test_a_layout_gives_the_single_ranks_losses(
    overrides: tuple[str, ...], world_size: int, tmp_path: Path, data_cache: Path, one_rank: RunFolder
) -> None:
    run = make_run(tmp_path / "run", data_cache, (*FIVE_STEPS, *overrides))
    assert train(run, world_size) == ExitCode.DONE, output_of(run)
    assert losses_of(run) == pytest.approx(losses_of(one_rank), rel=TOLERANCE)
    ours, theirs = (kl_at_start_and_end(each) for each in (run, one_rank))
    assert ours == pytest.approx(theirs, rel=TOLERANCE)


def test_tp_and_pp_may_change_at_a_resume(tmp_path: Path, data_cache: Path, one_rank: RunFolder) -> None:
    make_run(tmp_path / "run", data_cache, (*FIVE_STEPS, *layout(tensor=2), "train.exit_iteration=3"))
    run = RunFolder(tmp_path / "run")
    assert train(run, 2) == ExitCode.STOPPED_EARLY, output_of(run)
    make_run(run.path, data_cache, (*FIVE_STEPS, *layout(pipeline=2)))
    assert train(run, 2) == ExitCode.DONE, output_of(run)
    assert losses_of(run) == pytest.approx(losses_of(one_rank), rel=TOLERANCE)


def test_tied_embeddings_stay_tied_over_pipeline_stages(tmp_path: Path, data_cache: Path) -> None:
    tied = (*FIVE_STEPS, "model.architecture.tie_word_embeddings=true")
    runs = [
        make_run(tmp_path / "one", data_cache, tied),
        make_run(tmp_path / "two", data_cache, (*tied, *layout(pipeline=2))),
    ]
    for run, world_size in zip(runs, (1, 2), strict=True):
        assert train(run, world_size) == ExitCode.DONE, output_of(run)
    assert losses_of(runs[1]) == pytest.approx(losses_of(runs[0]), rel=TOLERANCE)


def kl_at_start_and_end(run: RunFolder) -> list[float]:
    """KL of the first and the last evaluation."""
    values = [float(line["eval/kl"] or 0.0) for line in read_metrics(run.metrics) if "eval/kl" in line]
    return [values[0], values[-1]]
