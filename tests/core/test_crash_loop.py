"""The failure card of a chain: the cause, how many starts in a row it ended, and why the chain was stopped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qad_core.commands.outlook import RunView, explain_failure
from qad_core.commands.status import print_failure
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job
from qad_core.run.status import Status, write_status
from qad_core.run.store import summarize_run
from qad_core.slurm.links import view_links
from qad_core.slurm.outlook import see_run
from tests.core.failed_start import STARTED, traceback_of
from tests.core.failure_texts import CUDA_OOM

STOPPED = "no progress: 2 links in a row ended, and no checkpoint was there as before them"
HOUR = 3600.0


def link(number: int, *, exit_code: int | None = 1, started: bool = True) -> Job:
    """A link of an hour, which ran for ten minutes."""
    began = STARTED + number * HOUR
    ended = began + 600 if exit_code is not None else None
    return Job(
        id=f"slurm-c-{number}", kind="slurm", chain="c", link=number, links=4, slurm_job_id=str(10 + number),
        started=began if started else None, ended=ended, exit_code=exit_code,
    )  # fmt: skip


def make_view(path: Path, jobs: list[Job], causes: dict[int, str], stopped: str = "") -> RunView:
    """A run whose links left these outputs, seen where SLURM remembers nothing."""
    folder = RunFolder(path / "run")
    folder.logs.mkdir(parents=True)
    folder.slurm.mkdir()
    for number, cause in causes.items():
        began = STARTED + number * HOUR
        log = folder.logs / f"output_2026-11-25_{12 + number}-00-00_rank0.out"
        log.write_text(traceback_of(cause))
        os.utime(log, (began + 590, began + 590))
    if stopped:
        folder.chain_stop("c").write_text(f"{stopped}\n")
    last = max((job.ended or job.started or 0.0) for job in jobs)
    write_status(folder.status, Status(phase="failed", error="rank 0 ended with exit code 1", updated=last))
    run = summarize_run(folder.path)
    links = tuple(view_links(jobs, {}, {}, last))
    return RunView(run, links, see_run(run, links, last), tuple(jobs))


def test_a_crash_loop_names_its_cause_how_often_and_why_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = link(4, exit_code=4, started=False)  # it found that the chain has come to nothing
    jobs = [link(1), link(2), link(3), refused]
    view = make_view(tmp_path, jobs, {1: "ValueError: another", 2: CUDA_OOM, 3: CUDA_OOM}, STOPPED)
    failure = explain_failure(view)
    assert failure is not None
    assert (failure.kind, failure.times, failure.chain_stopped) == ("cuda_out_of_memory", 2, STOPPED)
    print_failure(failure, view.run)
    shown = capsys.readouterr().out
    assert "A GPU ran out of memory (2 starts in a row)" in shown and f"the chain was stopped: {STOPPED}" in shown


def test_links_that_were_killed_without_an_end_are_told_apart_by_their_times(tmp_path: Path) -> None:
    jobs = [link(1), link(2, exit_code=None), link(3)]
    failure = explain_failure(make_view(tmp_path, jobs, {1: CUDA_OOM, 2: CUDA_OOM, 3: CUDA_OOM}))
    assert failure is not None and failure.times == 3
    failure = explain_failure(make_view(tmp_path / "other", jobs, {1: CUDA_OOM, 2: "KeyError: 'x'", 3: CUDA_OOM}))
    assert failure is not None and failure.times == 1


def test_a_link_that_saved_and_stopped_ends_the_row(tmp_path: Path) -> None:
    jobs = [link(1), link(2, exit_code=3), link(3)]
    failure = explain_failure(make_view(tmp_path, jobs, {1: CUDA_OOM, 3: CUDA_OOM}))
    assert failure is not None and failure.times == 1


@pytest.mark.parametrize(
    ("reason", "kind"), [(STOPPED, "chain_stopped"), ("the run is done", None), ("stopped at exit_iteration 5", None)]
)
def test_a_chain_that_was_stopped_without_any_other_word_says_why(
    tmp_path: Path, reason: str, kind: str | None
) -> None:
    view = make_view(tmp_path, [link(1, exit_code=3)], {}, reason)
    write_status(view.run.folder.status, Status(phase="stopped", step=5, updated=STARTED + HOUR + 600))
    run = summarize_run(view.run.path)
    failure = explain_failure(RunView(run, view.links, see_run(run, view.links, STARTED), view.jobs))
    assert (failure.kind if failure else None) == kind
