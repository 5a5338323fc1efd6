"""Chains: how many links a run needs, and when the rest of them has no business any more."""

from __future__ import annotations

import pytest

from qad_core.errors import ExitCode
from qad_core.launch.chain import GOES_ON, count_lost_starts, estimate_chain, judge_end, judge_start
from qad_core.run.jobs import Job


def link(number: int, *, before: int | None, started: float | None = 1.0, **fields: object) -> Job:
    record = {"id": f"slurm-c-{number}", "kind": "slurm", "link": number, "started": started}
    return Job.model_validate({**record, "checkpoint_before": before, **fields})


@pytest.mark.parametrize(
    ("iterations", "seconds", "links"),
    [(1, 1.0, 1), (1200, 10.0, 1), (1201, 10.0, 2), (4000, 10.0, 4), (0, 10.0, 1)],
)
def test_links_are_what_is_left_over_the_time_that_a_link_trains(iterations: int, seconds: float, links: int) -> None:
    estimate = estimate_chain(
        iterations, seconds, time_limit_seconds=13_000, stop_seconds_before_limit=600, start_seconds=400
    )
    assert estimate is not None and estimate.link_seconds == 12_000 and estimate.links == links


def test_a_walltime_that_only_loads_and_saves_has_no_estimate() -> None:
    assert estimate_chain(10, 1.0, time_limit_seconds=900, stop_seconds_before_limit=600, start_seconds=300) is None


@pytest.mark.parametrize("code", [ExitCode.STOPPED_EARLY, ExitCode.BUG, ExitCode.OUTSIDE_FAILED])
def test_a_link_that_gained_a_checkpoint_is_followed_by_the_next(code: ExitCode) -> None:
    assert judge_end(code, before=None, after=20, reason="SIGUSR1") == GOES_ON
    assert judge_end(code, before=20, after=40, reason="SIGUSR1") == GOES_ON


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (ExitCode.DONE, "", "the run is done"),
        (ExitCode.USER_ERROR, "", "the input is wrong"),
        (ExitCode.STOPPED_EARLY, "exit_iteration 40", "as asked"),
    ],
)
def test_an_end_that_another_link_would_only_repeat_stops_the_chain(code: ExitCode, reason: str, words: str) -> None:
    verdict = judge_end(code, before=20, after=40, reason=reason)
    assert not verdict.goes_on and words in verdict.reason and verdict.exit_code == code


@pytest.mark.parametrize(("code", "reason"), [(1, ""), (3, "SIGUSR1"), (137, "")])
@pytest.mark.parametrize("step", [None, 40])
def test_a_link_without_progress_stops_the_chain(code: int, reason: str, step: int | None) -> None:
    verdict = judge_end(code, before=step, after=step, reason=reason)
    assert not verdict.goes_on and "no progress" in verdict.reason and verdict.exit_code == code


def test_a_link_that_was_preempted_before_it_could_get_anywhere_is_followed_once_but_not_twice() -> None:
    assert judge_end(3, before=40, after=40, reason="SIGTERM", stopped_by="signal") == GOES_ON
    assert judge_end(3, before=40, after=40, reason="SIGUSR1", stopped_by="signal") == GOES_ON
    assert not judge_end(3, before=40, after=40, reason="SIGUSR1", stopped_by="walltime").goes_on
    second = link(2, before=40)
    assert judge_start(second, [link(1, before=40)], now_at=40, done=False) == GOES_ON
    verdict = judge_start(link(3, before=None), [link(1, before=40), second], now_at=40, done=False)
    assert not verdict.goes_on and "2 links in a row" in verdict.reason


def test_a_failure_outside_may_pass_and_is_followed_by_links_up_to_the_second_in_a_row() -> None:
    assert judge_end(ExitCode.OUTSIDE_FAILED, before=40, after=40, reason="") == GOES_ON
    failed = [link(number, before=40, exit_code=4) for number in (1, 2)]
    assert judge_start(link(2, before=None), failed[:1], now_at=40, done=False) == GOES_ON
    assert not judge_start(link(3, before=None), failed, now_at=40, done=False).goes_on


def test_a_link_that_ran_into_its_walltime_without_a_checkpoint_stops_the_chain_at_once() -> None:
    verdict = judge_start(link(2, before=None), [link(1, before=40, stopped_by="walltime")], now_at=40, done=False)
    assert not verdict.goes_on and "walltime" in verdict.reason
    assert judge_start(link(2, before=None), [link(1, before=20, stopped_by="walltime")], now_at=40, done=False).goes_on


def test_a_link_cancelled_before_it_started_does_not_count_against_the_chain() -> None:
    waiting = [link(number, before=None, started=None) for number in (1, 2, 3)]
    assert judge_start(link(4, before=None), waiting, now_at=None, done=False) == GOES_ON


def test_a_job_that_slurm_starts_again_and_again_without_progress_is_stopped() -> None:
    assert not judge_start(link(1, before=40, starts_without_gain=2), [], now_at=60, done=False).goes_on
    assert judge_start(link(1, before=40, starts_without_gain=1), [], now_at=60, done=False).goes_on


@pytest.mark.parametrize(
    ("restarts", "now_at", "lost"),
    [(5, 60, 0), (5, 40, 2), (7, 60, 2), (7, 40, 4), (4, 40, 1)],
)
def test_starts_are_counted_from_the_last_one_that_gained(restarts: int, now_at: int, lost: int) -> None:
    """The job has gained checkpoints before; a start that left no record is lost as well."""
    known = link(1, before=None, restarts=4, checkpoint_at_start=40, starts_without_gain=1)
    assert count_lost_starts(known, restarts, now_at) == lost


def test_starts_that_left_no_record_at_all_are_lost() -> None:
    assert count_lost_starts(link(1, before=None, started=None), 3, None) == 3


@pytest.mark.parametrize(("code", "expected"), [(2, 2), (0, 4), (None, 4)])
def test_a_link_that_starts_in_spite_of_a_stopped_chain_does_not_train(code: int | None, expected: int) -> None:
    earlier = [link(1, before=20, exit_code=code)]
    verdict = judge_start(link(2, before=None), earlier, now_at=40, done=False, stopped="the input is wrong")
    assert (verdict.goes_on, verdict.reason, verdict.exit_code) == (False, "the input is wrong", expected)


def test_a_link_of_a_run_that_is_done_has_nothing_to_do() -> None:
    verdict = judge_start(link(2, before=None), [], now_at=40, done=True)
    assert not verdict.goes_on and verdict.exit_code == ExitCode.DONE
