"""A run that was started on this machine without SLURM: found while it lives, and told to save and stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qad_core.commands.cancel import CancelOptions, cancel
from qad_core.launch.local_start import find_living
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import append_job, local_job, read_jobs
from qad_core.run.status import Status, write_status
from qad_core.run.store import summarize_run

LAUNCHER = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def launcher() -> Iterator[subprocess.Popen[str]]:
    """A process that saves and stops on SIGTERM, as `qad_core train` does."""
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def folder(tmp_path: Path, launcher: subprocess.Popen[str]) -> RunFolder:
    """A run that the launcher is at."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.config.write_text("loss: qad\n", encoding="utf-8")
    append_job(folder.jobs, local_job(("train",), pid=launcher.pid, started=time.time()))
    return folder


def test_cancel_tells_a_local_run_to_save_and_stop(
    folder: RunFolder, launcher: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cancel(str(folder.path), [], CancelOptions(as_json=True)) == 0
    assert launcher.wait(10) == 3
    assert json.loads(capsys.readouterr().out)["data"] == {"process": launcher.pid, "saves": True}


def test_a_run_that_was_cancelled_says_so_until_it_goes_on(folder: RunFolder) -> None:
    write_status(folder.status, Status(phase="stopped", step=5, train_iterations=40, reason="SIGTERM"))
    assert summarize_run(folder.path).words == "stopped at step 5 of 40 by SIGTERM, can be resumed"
    assert cancel(str(folder.path), [], CancelOptions()) == 0
    assert summarize_run(folder.path).words == "stopped at step 5 of 40, cancelled by the user, can be resumed"
    append_job(folder.jobs, local_job(("train",), pid=1, started=time.time() + 1))
    assert "SIGTERM" in summarize_run(folder.path).words, "it is another start that has ended now"


def test_a_run_that_was_cancelled_without_a_save_says_so(folder: RunFolder, launcher: subprocess.Popen[str]) -> None:
    write_status(folder.status, Status(phase="training", step=5, train_iterations=40, updated=1.0, host="elsewhere"))
    assert cancel(str(folder.path), [], CancelOptions(now=True)) == 0
    launcher.wait(10)
    run = summarize_run(folder.path)
    assert (run.state, run.cancelled) == ("killed", True)
    assert run.words == "killed while training at step 5 of 40, cancelled by the user, can be resumed"


def test_cancel_now_ends_a_local_run_without_a_save(folder: RunFolder, launcher: subprocess.Popen[str]) -> None:
    assert cancel(str(folder.path), [], CancelOptions(now=True)) == 0
    assert launcher.wait(10) == -9


def test_a_start_that_has_ended_or_is_of_another_machine_is_not_found(
    folder: RunFolder, launcher: subprocess.Popen[str]
) -> None:
    (start,) = read_jobs(folder.jobs)
    assert find_living([start]) == start
    assert find_living([start.model_copy(update={"ended": time.time()})]) is None
    assert find_living([start.model_copy(update={"host": "another"})]) is None
    launcher.kill()
    launcher.wait()
    assert find_living([start]) is None
