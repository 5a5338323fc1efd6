"""What is said of a link and of its run: from the run folder and SLURM's answers, and nothing that nobody said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from qad_core.run.jobs import Job
from qad_core.run.state import State
from qad_core.run.status import Status
from qad_core.run.store import RunSummary
from qad_core.slurm.links import LinkView, view_links
from qad_core.slurm.outlook import see_run
from qad_core.slurm.records import AccountingEntry, QueueEntry

NOW = 10_000.0
ENTRY = QueueEntry(
    job_id="12", state="RUNNING", reason="", partition="gpu", account="", user="me", submit_time=1.0, start_time=9e3,
    end_time=None, time_limit_seconds=3600, elapsed_seconds=1000, num_nodes=2, node_list="node[1-2]", dependency="",
    exit_code=None, signal=None, gpus=0, priority=1, restarts=0, name="run", comment="qad:c-1",
)  # fmt: skip
ACCOUNTED = AccountingEntry(
    job_id="12", state="TIMEOUT", cancelled_by="", exit_code=0, signal=15, submit_time=1.0, start_time=2.0,
    end_time=5.0, elapsed_seconds=3, time_limit_seconds=60, node_list="node1", reason="",
)  # fmt: skip


def job(**fields: object) -> Job:
    return Job.model_validate(
        {"id": "slurm-c-1", "kind": "slurm", "link": 1, "links": 1, "slurm_job_id": "12", **fields}
    )


def see(
    record: Job, queue: QueueEntry | None = None, accounted: AccountingEntry | None = None, *, silent: bool = False
) -> LinkView:
    found = None if silent else {} if queue is None else {queue.job_id: queue}
    (view,) = view_links([record], found, {} if accounted is None else {accounted.job_id: accounted}, NOW)
    return view


def run_of(status: Status | None, state: State, updated: float = NOW) -> RunSummary:
    return RunSummary(Path("run"), state, status, False, None, (), (), 0, updated)


def test_a_job_that_has_left_without_a_word_is_unknown_and_never_done() -> None:
    for record in (job(), job(started=5.0)):
        view = see(record)
        assert view.stage == "unknown" and "accounting says nothing" in view.words
    assert see(job(started=5.0), silent=True).words.startswith("SLURM does not answer")
    lagging = see(job(started=5.0), None, dataclasses.replace(ACCOUNTED, state="RUNNING"))
    assert lagging.stage == "unknown" and "accounting still says RUNNING" in lagging.words


def test_a_recorded_end_is_known_whatever_slurm_has_forgotten() -> None:
    assert see(job(started=5.0, ended=9.0, exit_code=3), silent=True).words == "stopped early and saved"
    assert see(job(started=5.0, ended=9.0, exit_code=0)).words == "ended: done"


def test_the_trainings_exit_code_counts_over_that_of_the_accounts() -> None:
    view = see(job(started=5.0, ended=9.0, exit_code=3), None, ACCOUNTED)
    assert (view.state, view.exit_code, view.source) == ("TIMEOUT", 3, "sacct")


def test_a_running_link_says_what_is_left_of_its_walltime() -> None:
    view = see(job(), ENTRY)
    assert (view.elapsed_seconds, view.left_seconds, view.node_list) == (1000.0, 2600.0, "node[1-2]")


def test_a_submission_without_an_answer_is_lost_and_a_refused_one_refused() -> None:
    assert see(job(slurm_job_id="")).stage == "lost"
    assert see(job(slurm_job_id="", refused="Invalid qos")).words == "not taken by SLURM: Invalid qos"


def test_a_link_that_can_never_start_blocks_its_run_and_names_the_command_that_clears_it() -> None:
    pending = ENTRY._replace(
        state="PENDING", reason="DependencyNeverSatisfied", start_time=None, dependency="afterok:9(failed)"
    )
    outlook = see_run(run_of(None, "never started"), [see(job(), pending)], NOW)
    assert outlook.state == "blocked" and "qad_core cancel run --chain" in outlook.what_to_do


@pytest.mark.parametrize(
    ("status", "state", "updated", "expected"),
    [
        (None, "never started", NOW, "starting"),
        (Status(phase="stopped", updated=8_000.0), "stopped", 8_000.0, "starting"),  # of the link before
        (Status(phase="training", updated=NOW), "running", NOW, "running"),
        (Status(phase="training", updated=9_500.0), "killed", 9_500.0, "silent"),
        (Status(phase="done", updated=NOW), "done", NOW, "done"),
    ],
)
def test_a_run_whose_job_runs_is_judged_by_its_own_words(
    status: Status | None, state: State, updated: float, expected: str
) -> None:
    assert see_run(run_of(status, state, updated), [see(job(), ENTRY)], NOW).state == expected


def test_a_run_that_is_done_says_by_which_command_it_is_exported() -> None:
    run = run_of(Status(phase="done", updated=NOW), "done")
    assert f"qad_core export {run.name} --out DIR" in see_run(run, [], NOW).what_to_do


def test_a_run_that_trains_is_running_though_slurm_is_silent() -> None:
    links = [see(job(), silent=True), see(job(slurm_job_id="13"), silent=True)]
    status = Status(phase="training", step=7, train_iterations=40, updated=NOW)
    outlook = see_run(run_of(status, "running"), links, NOW)
    assert outlook.state == "running" and "SLURM does not answer" in outlook.words
    stale = see_run(run_of(status, "killed", NOW - 900), links, NOW)
    assert stale.state == "unknown" and "its last word, 15 min 00 s ago: training at step 7 of 40" in stale.words
    stopped = see_run(run_of(Status(phase="stopped", step=7, updated=NOW), "stopped"), links, NOW)
    assert stopped.state == "unknown" and "whether job 13 goes on is not known" in stopped.words
    left = see_run(run_of(status, "running"), [see(job())], NOW)  # SLURM answered, and has no such job
    assert left.state == "unknown" and "has left the queue" in left.words


def test_a_run_that_is_silent_is_not_called_killed_while_its_job_runs() -> None:
    status = Status(phase="training", step=7, train_iterations=40, updated=9_500.0)
    outlook = see_run(run_of(status, "killed", 9_400.0), [see(job(), ENTRY)], NOW)
    assert outlook.words == (
        "job 12 runs, but the trainer has said nothing for 10 min 00 s; its last word: training at step 7 of 40"
    )
    assert outlook.what_to_do == "See what it does: qad_core logs run"


def test_what_a_link_waits_for_does_not_grow_with_the_chain() -> None:
    ids = [str(number) for number in range(20, 60)]
    jobs = [job(id=f"slurm-c-{number}", slurm_job_id=number) for number in ids]
    waits = ",".join(f"afterany:{number}(unfulfilled)" for number in ids[:-1])
    pending = ENTRY._replace(job_id="59", state="PENDING", reason="Dependency", dependency=waits)
    last = view_links(jobs, {"59": pending}, {}, NOW)[-1]
    assert last.waits_for == "all links before it" and last.dependency == waits
    assert last.words == "waits: other jobs go first: until all links before it have ended"


def test_a_waiting_run_says_what_it_waits_for_and_when_slurm_expects_it() -> None:
    pending = ENTRY._replace(state="PENDING", reason="Resources", start_time=NOW + 3600)
    outlook = see_run(run_of(None, "never started"), [see(job(), pending)], NOW)
    assert outlook.state == "queued" and "expected to start in 1 h" in outlook.words


def test_a_job_that_ended_without_a_word_of_the_trainer_is_told_with_slurms() -> None:
    status = Status(phase="training", step=7, updated=100.0)
    outlook = see_run(run_of(status, "killed"), [see(job(started=5.0), None, ACCOUNTED)], NOW)
    assert outlook.state == "killed" and "ran into its walltime" in outlook.words and "--links 1" in outlook.what_to_do
