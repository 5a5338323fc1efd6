"""`qad_core status RUN --wait` comes back when the run has ended, with its exit code, and asks SLURM rarely."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job
from qad_core.run.status import Phase, Status, write_status
from tests.tui.fake_slurm import FakeSlurm


def make_run(root: Path, phase: Phase, *, pid: int = 0, name: str = "run", exit_code: int | None = None) -> RunFolder:
    folder = RunFolder(root / name)
    folder.path.mkdir(exist_ok=True)
    status = Status(phase=phase, pid=pid, host=socket.gethostname(), updated=time.time(), exit_code=exit_code)
    write_status(folder.status, status)
    return folder


def wait_for(root: Path, *names: str) -> int:
    return main(["status", *(names or ("run",)), "--wait", "--root", str(root)])


@pytest.mark.parametrize(
    ("phase", "written", "code"), [("done", 0, 0), ("stopped", 3, 3), ("failed", 2, 2), ("failed", None, 1)]
)
def test_a_run_that_has_ended_gives_its_exit_code_at_once(
    tmp_path: Path, phase: Phase, written: int | None, code: int
) -> None:
    make_run(tmp_path, phase, exit_code=written)
    assert wait_for(tmp_path) == code


def test_a_killed_run_was_ended_from_outside(tmp_path: Path) -> None:
    make_run(tmp_path, "training", pid=2**22 + 1)
    assert wait_for(tmp_path) == 4


def test_of_several_runs_the_first_that_is_not_done_gives_the_exit_code(tmp_path: Path) -> None:
    make_run(tmp_path, "done", name="a")
    make_run(tmp_path, "stopped", name="b", exit_code=3)
    assert wait_for(tmp_path, "a", "b") == 3


def test_a_run_that_lives_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qad_core.commands.waiting.FOLDER_SECONDS", 0.05)
    make_run(tmp_path, "training", pid=os.getpid())
    ending = threading.Timer(0.5, lambda: make_run(tmp_path, "done", pid=os.getpid(), exit_code=0))
    began = time.monotonic()
    ending.start()
    assert wait_for(tmp_path) == 0
    assert time.monotonic() - began > 0.4 and "done" in capsys.readouterr().out


def test_a_link_that_waits_is_waited_for_and_squeue_asked_once_in_fifteen_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, slurm = make_run(tmp_path, "stopped", exit_code=3), FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", slurm.environ["PATH"])
    append_job(folder.jobs, Job(id="slurm-a", kind="slurm", chain="c", submitted=time.time(), slurm_job_id="7"))
    slurm.show_jobs([{"JobArrayID": 7, "Comment": "qad:a"}])
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 2:
            slurm.show_jobs([])
            make_run(tmp_path, "done", exit_code=0)

    monkeypatch.setattr("qad_core.commands.waiting.sleep", sleep)
    assert wait_for(tmp_path) == 0
    assert sleeps == pytest.approx([15, 15], abs=1)
    assert len(slurm.calls("squeue")) == 4, "two while it waits, and at its end one more with the accounts"


@pytest.mark.parametrize("made", [("checkpoints", "tensorboard"), ()])
def test_a_run_that_nobody_has_started_is_refused(
    tmp_path: Path, made: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    for name in made:
        (tmp_path / "run" / name).mkdir()
    if not made:
        (tmp_path / "run/config.yaml").touch()
    assert wait_for(tmp_path) == 2
    assert "is not under way" in capsys.readouterr().err


def test_waiting_for_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--wait", "--root", str(tmp_path)]) == 2
    assert "Name the runs" in capsys.readouterr().err
