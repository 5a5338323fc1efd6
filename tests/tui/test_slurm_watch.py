"""What is asked of SLURM and how often, by real commands that answer what a test has written down."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qad_core.run.jobs import Job
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.polling import Pace
from qad_tui.endings import MOST_TRIES
from qad_tui.slurm_watch import SlurmSnapshot, SlurmWatch, Wish
from tests.tui.conftest import Clock
from tests.tui.fake_slurm import FakeSlurm

NOW = 1_790_000_000.0
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
NO_ACCOUNTS = "Slurm accounting storage is disabled"


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def watch(slurm: FakeSlurm, clock: Clock) -> SlurmWatch:
    return SlurmWatch(slurm.client(), clock=clock, pace=Pace(15), jitter=lambda: 0.0)


def links(*job_ids: int) -> Wish:
    jobs = (Job(id=f"slurm-{job_id}", kind="slurm", slurm_job_id=str(job_id), submitted=NOW) for job_id in job_ids)
    return Wish(tuple(jobs))


def everyone(*job_ids: int) -> Wish:
    return Wish(links(*job_ids).links, everyone=True)


def look(watch: SlurmWatch, wish: Wish) -> SlurmSnapshot:
    return list(watch.look(wish))[-1]


def test_without_links_and_without_the_queue_nothing_is_asked(watch: SlurmWatch, slurm: FakeSlurm) -> None:
    assert not watch.is_due(Wish())
    assert slurm.calls() == []


def test_all_links_are_asked_about_by_one_squeue(watch: SlurmWatch, slurm: FakeSlurm, clock: Clock) -> None:
    slurm.show_jobs([{"JobArrayID": number} for number in (7, 8, 9)])
    assert watch.is_due(links(7, 8, 9))
    snapshot = look(watch, links(7, 8, 9))
    assert len(slurm.calls()) == 1 and "--jobs=7,8,9" in slurm.calls()[0]
    assert sorted(snapshot.answers.queue or {}) == ["7", "8", "9"] and snapshot.answered_at == NOW
    clock.unix_time += 14.9
    assert not watch.is_due(links(7, 8, 9))
    clock.unix_time += 0.2
    assert watch.is_due(links(7, 8, 9))


def test_the_queue_on_the_screen_is_one_squeue_for_everything(watch: SlurmWatch, slurm: FakeSlurm) -> None:
    slurm.show_jobs([{"JobArrayID": 7}, {"JobArrayID": 12, "UserName": "anna"}])
    slurm.show_partitions([{"Partition": "gpu*"}])
    snapshot = look(watch, everyone(7))
    assert [call.split()[0] for call in slurm.calls()] == ["squeue", "sinfo"]
    assert "--jobs" not in slurm.calls()[0]
    assert [entry.job_id for entry in snapshot.jobs or ()] == ["7", "12"]
    assert list(snapshot.answers.queue or ()) == ["7"]
    assert snapshot.partitions and snapshot.partitions[0].name == "gpu"


def test_sinfo_is_asked_once_a_minute(watch: SlurmWatch, slurm: FakeSlurm, clock: Clock) -> None:
    for _ in range(5):
        look(watch, everyone())
        clock.unix_time += 15
    assert len(slurm.calls("squeue")) == 5 and len(slurm.calls("sinfo")) == 2


def test_neither_a_new_link_nor_a_key_asks_sooner_and_the_queue_only_when_it_is_first_opened(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    slurm.show_jobs([{"JobArrayID": 7}])
    look(watch, links(7))
    clock.unix_time += 14.9
    assert watch.is_due(everyone(7)) and not watch.is_due(links(7, 8)) and not watch.may_ask()
    look(watch, everyone(7))
    clock.unix_time += 14.9
    assert not watch.is_due(everyone(7)) and not watch.may_ask()
    clock.unix_time += 0.2
    assert watch.is_due(everyone(7)) and watch.may_ask()


def test_a_link_that_left_the_queue_is_asked_of_the_accounts_once(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    slurm.show_jobs([{"JobArrayID": 8}])
    slurm.show_endings([{"JobID": 7, "State": "TIMEOUT"}])
    for _ in range(4):
        snapshot = look(watch, links(7, 8))
        clock.unix_time += 15
    assert (snapshot.answers.accounting or {})["7"].state == "TIMEOUT"
    assert len(slurm.calls("sacct")) == 1 and "--jobs=7" in slurm.calls("sacct")[0]
    assert "--jobs=8" in slurm.calls("squeue")[-1], "a job that is gone for good is not looked for in the queue"


def test_runs_whose_links_have_all_ended_are_asked_about_once_and_never_again(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    slurm.show_endings([{"JobID": 7}])
    look(watch, links(7))
    clock.unix_time += 3600
    assert watch.next_at(links(7)) is None
    assert len(slurm.calls()) == 2


def test_accounts_that_lag_are_asked_again_and_not_for_ever(watch: SlurmWatch, slurm: FakeSlurm, clock: Clock) -> None:
    while watch.is_due(links(7)):
        look(watch, links(7))
        clock.unix_time += 15
    assert len(slurm.calls("sacct")) == MOST_TRIES and len(slurm.calls("squeue")) == 1


def test_accounts_that_are_down_are_left_alone_longer_and_longer(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    slurm.fail("sacct", "sacct: error: slurm_persist_conn_open: Connection refused")
    slurm.show_jobs([{"JobArrayID": 8}])
    for _ in range(20):  # five minutes
        snapshot = look(watch, links(7, 8))
        clock.unix_time += 15
    assert len(slurm.calls("squeue")) == 20 and len(slurm.calls("sacct")) == 4
    assert "Connection refused" in " ".join(snapshot.answers.silences)


def test_a_cluster_without_accounts_is_asked_for_them_once(watch: SlurmWatch, slurm: FakeSlurm, clock: Clock) -> None:
    slurm.fail("sacct", NO_ACCOUNTS)
    look(watch, links(7))
    clock.unix_time += 3600
    assert not watch.is_due(links(7))
    assert len(slurm.calls("sacct")) == 1


def test_a_requeued_link_s_end_is_asked_for_anew(watch: SlurmWatch, slurm: FakeSlurm, clock: Clock) -> None:
    slurm.show_jobs([{"JobArrayID": 7, "State": "NODE_FAIL"}])
    slurm.show_endings([{"JobID": 7, "State": "NODE_FAIL"}])
    assert (look(watch, links(7)).answers.accounting or {})["7"].state == "NODE_FAIL"
    clock.unix_time += 15
    slurm.show_jobs([{"JobArrayID": 7, "State": "RUNNING"}])
    assert "7" not in (look(watch, links(7)).answers.accounting or {})
    clock.unix_time += 15
    slurm.show_jobs([])
    slurm.show_endings([{"JobID": 7, "State": "COMPLETED"}])
    assert (look(watch, links(7)).answers.accounting or {})["7"].state == "COMPLETED"


def test_a_link_that_is_new_since_the_last_answer_is_no_lost_one(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    slurm.show_jobs([{"JobArrayID": 7}])
    look(watch, links(7))
    assert watch.next_at(links(7, 8)) == watch.next_at(links(7))
    assert "8" not in (watch.snapshot.answers.asked or ())


def test_the_last_good_answer_stays_with_its_age_while_the_controller_is_down(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    slurm.show_jobs([{"JobArrayID": 7}, {"JobArrayID": 12, "UserName": "anna"}])
    look(watch, everyone(7))
    slurm.fail("squeue", DOWN)
    clock.unix_time += 34
    snapshot = look(watch, everyone(7))
    assert "Unable to contact slurm controller" in snapshot.problem
    assert snapshot.jobs is not None and len(snapshot.jobs) == 2, "a controller that is down is no empty queue"
    assert snapshot.jobs_at == NOW and "7" in (snapshot.answers.queue or {})


def test_a_controller_that_never_answered_has_no_empty_queue(watch: SlurmWatch, slurm: FakeSlurm) -> None:
    slurm.fail("squeue", DOWN)
    snapshot = look(watch, everyone(7))
    assert snapshot.jobs is None and snapshot.answers.queue is None and snapshot.problem


def test_a_silent_controller_is_asked_less_and_less(watch: SlurmWatch, slurm: FakeSlurm, clock: Clock) -> None:
    slurm.fail("squeue", DOWN)
    waits: list[float] = []
    for _ in range(7):
        look(watch, links(7))
        waits.append((watch.next_at(links(7)) or 0) - clock())
        clock.unix_time += waits[-1]
    assert waits == [15, 30, 60, 120, 240, 300, 300]
    slurm.heal("squeue")
    look(watch, links(7))
    assert not watch.snapshot.problem and slurm.calls("sacct")


def test_a_squeue_that_hangs_is_given_up_and_left_alone(slurm: FakeSlurm, clock: Clock) -> None:
    slurm.hang("squeue", 60)
    watch = SlurmWatch(slurm.client(timeout_seconds=1.0), clock=clock, jitter=lambda: 0.0)
    began = time.monotonic()
    snapshot = look(watch, links(7))
    assert time.monotonic() - began < 10 and "squeue said nothing in 1 s" in snapshot.problem


def test_where_there_is_no_slurm_that_is_said_once_and_nothing_is_polled(tmp_path: Path, clock: Clock) -> None:
    watch = SlurmWatch(SlurmClient(environ={"PATH": str(tmp_path)}), clock=clock)
    snapshot = look(watch, everyone(7))
    assert snapshot.missing and "not on the PATH" in snapshot.problem
    clock.unix_time += 1e6
    assert watch.next_at(everyone(7)) is None and watch.may_ask()


def test_nobody_who_looks_and_nothing_that_runs_means_no_question(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    away = Wish(links(7).links, away=True)
    slurm.show_jobs([{"JobArrayID": 7, "State": "COMPLETED"}])
    slurm.show_endings([{"JobID": 7}])
    look(watch, links(7))
    clock.unix_time += 3600
    assert watch.next_at(away) is None and watch.is_due(links(7)), "the next key wakes it"


def test_the_outcome_of_an_action_is_looked_at_once_before_the_usual_pace(
    watch: SlurmWatch, slurm: FakeSlurm, clock: Clock
) -> None:
    slurm.show_jobs([{"JobArrayID": 7}])
    look(watch, links(7))
    clock.unix_time += 1
    watch.note_action()
    clock.unix_time += 4.9
    assert not watch.is_due(links(7))
    clock.unix_time += 0.2
    assert watch.is_due(links(7))
    look(watch, links(7))
    assert watch.next_at(links(7)) == clock() + 15


def test_a_thousand_links_and_more_are_still_one_squeue(watch: SlurmWatch, slurm: FakeSlurm) -> None:
    slurm.show_jobs([{"JobArrayID": number} for number in range(1, 1502)])
    snapshot = look(watch, links(*range(1, 1502)))
    assert len(slurm.calls()) == 1 and len(snapshot.answers.queue or ()) == 1501
