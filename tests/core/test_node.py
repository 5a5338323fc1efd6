"""What the first node of a job does before its ranks: refuse, wait, and say why, for the chain to go on or to end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from qad_core.config.load import load_experiment
from qad_core.config.schema import SlurmConfig
from qad_core.errors import BusyError, ExitCode
from qad_core.launch.lock import locked_folder
from qad_core.launch.node import is_walltime, run_node
from qad_core.launch.run_local import write_folder
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job, read_jobs

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "QAD_SUBMISSION": "c-2", "QAD_CHAIN": "c", "QAD_NODES": "node1"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that link 1 of its chain has ended with a failure."""
    monkeypatch.chdir(Path(__file__).parents[2])
    folder = RunFolder(tmp_path)
    write_folder(folder, load_experiment("tiny", ["cluster.kind=slurm", f"paths.data_cache={tmp_path}"], {}))
    folder.slurm.mkdir()
    append_job(folder.jobs, Job(id="slurm-c-1", kind="slurm", chain="c", link=1, started=1.0, exit_code=2))
    return folder


def test_a_link_that_starts_in_spite_of_a_stop_does_not_train(folder: RunFolder) -> None:
    (folder.slurm / "c.stop").write_text("the input is wrong\n")
    assert run_node(folder, JOB) == ExitCode.USER_ERROR
    assert (folder.slurm / "c-2.7.0.exit").read_text() == "2\n"
    assert read_jobs(folder.jobs)[1].started is None


def test_files_of_another_job_with_the_same_id_are_not_believed(folder: RunFolder) -> None:
    (folder.slurm / "c.stop").write_text("the input is wrong\n")
    for name in ("7.0.node0", "d-2.7.0.node0", "d-2.7.0.exit"):
        (folder.slurm / name).write_text('{"node_rank": 0, "exit_code": 4}')
    assert run_node(folder, JOB) == ExitCode.USER_ERROR


def test_a_folder_that_stays_held_ends_the_link_but_not_the_chain(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qad_core.launch.run_local.LOCK_SECONDS", 0.1)
    with locked_folder(folder), pytest.raises(BusyError) as caught:
        run_node(folder, JOB)
    assert caught.value.exit_code == ExitCode.OUTSIDE_FAILED
    assert (folder.slurm / "c-2.7.0.exit").read_text() == "4\n"
    assert not (folder.slurm / "c.stop").exists()
    assert read_jobs(folder.jobs)[1].started is not None, "the third such start in a row is to be refused"


@pytest.mark.parametrize(
    ("number", "elapsed", "expected"),
    [(signal.SIGUSR1, 600, False), (signal.SIGUSR1, 2500, True), (signal.SIGTERM, 2500, False)],
)
def test_the_signal_of_the_walltime_is_told_by_the_time_since_the_jobs_start(
    number: int, elapsed: float, expected: bool
) -> None:
    slurm = SlurmConfig(time_limit="1:00:00", stop_seconds_before_limit=1100)
    assert is_walltime(slurm, number, elapsed) == expected
