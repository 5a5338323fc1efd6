"""When SLURM is asked: never too often, sooner where somebody waits, later where it is slow, not at all for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.slurm.polling import (
    AWAY_FACTOR,
    AWAY_SECONDS,
    JITTER_SHARE,
    LEAST_SECONDS,
    LONGEST_BACK_OFF_SECONDS,
    Need,
    Pace,
    Polled,
    is_away,
    next_question,
    soonest_question,
)
from qad_core.slurm.site import FLOOR_VARIABLE, read_site_floor

NOW = 1000.0
LIVE = Need(links=True, live=True)


def test_the_first_question_does_not_wait() -> None:
    assert next_question(Pace(), Polled(), LIVE) == 0.0


def test_the_usual_pace_is_one_question_in_fifteen_seconds() -> None:
    assert next_question(Pace(), Polled(NOW), LIVE) == NOW + 15


@pytest.mark.parametrize(
    ("pace", "seconds"), [(Pace(30), 30), (Pace(1), LEAST_SECONDS), (Pace(15, 120), 120), (Pace(300, 120), 300)]
)
def test_a_person_may_ask_less_often_than_the_site_and_not_more(pace: Pace, seconds: float) -> None:
    assert next_question(pace, Polled(NOW), LIVE) == NOW + seconds


@pytest.mark.parametrize("need", [Need(), Need(away=True), Need(links=True, away=True), Need(everyone=True, away=True)])
def test_nothing_is_asked_for_nothing_and_for_nobody(need: Need) -> None:
    assert next_question(Pace(), Polled(NOW), need) is None
    assert next_question(Pace(), Polled(), need) is None


def test_jobs_of_ours_are_watched_at_a_quarter_of_the_pace_while_nobody_looks() -> None:
    away = Need(links=True, live=True, away=True)
    assert next_question(Pace(), Polled(NOW), away) == NOW + 15 * AWAY_FACTOR


def test_a_key_gets_no_question_sooner_than_the_usual_pace() -> None:
    assert soonest_question(Pace(), Polled(NOW)) == NOW + 15
    assert soonest_question(Pace(15, 60), Polled(NOW)) == NOW + 60


def test_an_action_is_looked_at_once_after_five_seconds_and_then_at_the_usual_pace() -> None:
    acted = Need(links=True, live=True, acted_at=NOW)
    assert next_question(Pace(), Polled(NOW - 2), acted) == NOW + 5
    assert next_question(Pace(), Polled(NOW + 1), acted) == NOW + 1 + 5
    assert next_question(Pace(), Polled(NOW + 5.1, took_seconds=0.1), acted) == NOW + 5.1 + 15
    assert next_question(Pace(15, 60), Polled(NOW - 2), acted) == NOW + 58


def test_a_queue_just_opened_does_not_wait_for_the_usual_pace() -> None:
    assert next_question(Pace(), Polled(NOW), Need(links=True, everyone=True, opened=True)) == NOW + 5
    assert next_question(Pace(floor_seconds=60), Polled(NOW), Need(everyone=True, opened=True)) == NOW + 60


def test_a_slow_squeue_is_left_alone_for_ten_times_as_long() -> None:
    assert next_question(Pace(), Polled(NOW, took_seconds=4), LIVE) == NOW + 40
    assert next_question(Pace(), Polled(NOW, took_seconds=4), Need(links=True, acted_at=NOW)) == NOW + 40
    assert soonest_question(Pace(), Polled(NOW, took_seconds=4)) == NOW + 40


def test_silence_doubles_the_wait_up_to_five_minutes_whatever_somebody_waits_for() -> None:
    acted = Need(links=True, acted_at=NOW)
    waits = [next_question(Pace(), Polled(NOW, 1, failures), acted) for failures in (1, 2, 3, 4, 5, 6, 40)]
    assert [wait and wait - NOW for wait in waits] == [15, 30, 60, 120, 240, 300, 300]
    assert next_question(Pace(), Polled(NOW, took_seconds=60, failures=1), LIVE) == NOW + LONGEST_BACK_OFF_SECONDS


def test_jitter_only_ever_lengthens_the_wait() -> None:
    assert next_question(Pace(), Polled(NOW, jitter=1.0), LIVE) == NOW + 15 * (1 + JITTER_SHARE)


def test_nobody_looks_after_ten_minutes_without_a_key_or_without_the_focus() -> None:
    assert not is_away(NOW, focused=True, now=NOW + AWAY_SECONDS - 1)
    assert is_away(NOW, focused=True, now=NOW + AWAY_SECONDS)
    assert is_away(NOW, focused=False, now=NOW)


def test_the_site_s_floor_is_the_larger_of_its_variable_and_its_file(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    assert read_site_floor({}, file).seconds == 0
    file.write_text("squeue_seconds = 60\n")
    assert read_site_floor({}, file).seconds == 60
    assert read_site_floor({FLOOR_VARIABLE: "120"}, file).seconds == 120
    assert read_site_floor({FLOOR_VARIABLE: "5"}, file).seconds == 60


@pytest.mark.parametrize("text", ["squeue_seconds = 'often'", "squeue_seconds =", "squeue_seconds = -1"])
def test_a_site_s_wish_that_cannot_be_read_is_named_and_passed_over(tmp_path: Path, text: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    floor = read_site_floor({FLOOR_VARIABLE: "30"}, file)
    assert floor.seconds == 30
    assert len(floor.problems) == 1 and str(file) in floor.problems[0]
