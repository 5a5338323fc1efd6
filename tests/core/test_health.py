"""The health rules: each fires on what it is for, once the run is not the healthy one of the first test."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from qad_core.run.health import FEWEST_STEPS, Finding, HealthWatch, find_stall, worst_of
from qad_core.run.history import ThinnedHistory
from qad_core.run.metrics import MetricsLine
from qad_core.run.status import Status

STEP_SECONDS = 2.0


def healthy(steps: int, seed: int = 0) -> list[MetricsLine]:
    """A run as it should be: noisy, with single jumps of the step time, and falling."""
    noise = random.Random(seed)
    lines: list[MetricsLine] = [{"step": 0, "time": 0.0, "eval/kl": 0.5, "eval/tokens": 1000}]
    for step in range(1, steps + 1):
        share = math.exp(-3 * step / steps)
        slow = 3.0 if step % 50 == 0 else 1.0
        lines.append(
            {
                "step": step,
                "time": step * STEP_SECONDS,
                "loss/kd": (0.1 + 0.4 * share) * noise.lognormvariate(0, 0.15),
                "grad_norm": noise.lognormvariate(0, 0.25),
                "skipped": 0,
                "step_ms": 1000 * STEP_SECONDS * slow * noise.uniform(0.9, 1.1),
            }
        )
        if step % 25 == 0:
            kl = 0.1 + 0.4 * share
            lines.append({"step": step, "time": step * STEP_SECONDS, "eval/kl": kl, "eval/tokens": 1000})
    return lines


def findings(lines: list[MetricsLine]) -> dict[str, Finding]:
    watch = HealthWatch()
    watch.extend(lines)
    return {finding.rule: finding for finding in watch.findings()}


def changed(lines: list[MetricsLine], change: Callable[[MetricsLine], MetricsLine]) -> list[MetricsLine]:
    return [line if "eval/kl" in line else {**line, **change(line)} for line in lines]


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_has_no_findings(seed: int) -> None:
    assert findings(healthy(400, seed)) == {}


@pytest.mark.parametrize(("steps", "said"), [(1, "1 step,"), (FEWEST_STEPS - 1, "9 steps,")])
def test_a_run_of_few_steps_is_not_called_healthy(steps: int, said: str) -> None:
    (early,) = findings(healthy(steps)).values()
    assert (early.rule, early.severity, early.step) == ("too-early", "note", steps)
    assert "Too early" in early.sentence and said in early.sentence


def test_a_run_of_enough_steps_and_one_without_any_have_nothing_said_of_them() -> None:
    assert findings(healthy(FEWEST_STEPS)) == findings(healthy(0)) == {}


def test_what_is_wrong_after_few_steps_is_said_in_place_of_that() -> None:
    assert set(findings(changed(healthy(3), lambda line: {"loss/kd": math.nan}))) == {"non-finite"}


def test_the_same_is_found_however_the_lines_come() -> None:
    lines = changed(healthy(200), lambda line: {"grad_norm": 50.0} if (line["step"] or 0) % 7 == 0 else {})
    watch = HealthWatch()
    for line in lines:
        watch.extend([line])
    assert {finding.rule: finding for finding in watch.findings()} == findings(lines)


def test_a_nan_now_is_a_problem_and_one_of_long_ago_a_warning() -> None:
    now = findings(changed(healthy(200), lambda line: {"loss/kd": math.nan} if (line["step"] or 0) >= 198 else {}))
    assert now["non-finite"].severity == "problem"
    assert "3 steps was not finite, between steps 198 and 200" in now["non-finite"].sentence
    before = findings(changed(healthy(200), lambda line: {"grad_norm": math.inf} if line["step"] == 90 else {}))
    assert (
        before["non-finite"].severity == "warning" and "at step 90; it has recovered" in before["non-finite"].sentence
    )


def test_skipped_steps_are_counted() -> None:
    found = findings(changed(healthy(200), lambda line: {"skipped": 1} if line["step"] in (150, 190) else {}))
    assert (found["skipped"].severity, found["skipped"].step) == ("warning", 190)
    assert "2 steps were skipped, the last at step 190" in found["skipped"].sentence


def test_one_gradient_norm_spike_is_a_note_and_many_are_a_warning() -> None:
    one = findings(changed(healthy(200), lambda line: {"grad_norm": 30.0} if line["step"] == 180 else {}))
    assert one["gradient-norm"].severity == "note" and "1 isolated" in one["gradient-norm"].sentence
    row = findings(changed(healthy(200), lambda line: {"grad_norm": 30.0} if line["step"] in (170, 171, 172) else {}))
    assert row["gradient-norm"].severity == "warning" and "persistently" in row["gradient-norm"].sentence
    often = findings(changed(healthy(200), lambda line: {"grad_norm": 30.0} if (line["step"] or 0) % 8 == 0 else {}))
    assert often["gradient-norm"].severity == "warning"


def test_a_loss_above_its_start_is_a_problem_and_noise_is_none() -> None:
    risen = findings(changed(healthy(200), lambda line: {"loss/kd": 0.5 + 0.002 * (line["step"] or 0)}))
    assert risen["loss-above-start"].severity == "problem"
    noise = random.Random(1)
    flat = findings(changed(healthy(200), lambda line: {"loss/kd": 0.5 * noise.lognormvariate(0, 0.3)}))
    assert "loss-above-start" not in flat


def test_a_run_slower_than_its_own_median_is_called_slow() -> None:
    found = findings(changed(healthy(200), lambda line: {"step_ms": 5000.0} if (line["step"] or 0) > 185 else {}))
    assert (
        "5000 ms in the median, 2.5 times" in found["slow"].sentence or "times the run's own" in found["slow"].sentence
    )
    assert found["slow"].severity == "warning"


def test_held_out_kl_that_rises_twice_is_found_and_once_is_not() -> None:
    lines = healthy(200)
    lines += [{"step": 225, "eval/kl": 0.3, "eval/tokens": 1000}]
    assert "evaluation-rises" not in findings(lines)
    lines += [{"step": 250, "eval/kl": 0.35, "eval/tokens": 1000}]
    assert "risen 2 times in a row" in findings(lines)["evaluation-rises"].sentence
    other_data: list[MetricsLine] = [{**lines[-1], "step": 275, "eval/kl": 0.4, "eval/tokens": 99}]
    assert "evaluation-rises" not in findings(lines + other_data)


def status(phase: str, updated: float) -> Status:
    return Status.model_validate({"phase": phase, "updated": updated, "step": 40, "train_iterations": 100})


def test_no_step_for_five_medians_is_a_stall() -> None:
    times = [2000.0] * 50
    assert find_stall(status("training", 100.0), 100.0, times, 2.0, now=109.0) is None
    stall = find_stall(status("training", 100.0), 100.0, times, 2.0, now=111.0)
    assert stall is not None and stall.severity == "problem"
    assert "No new step for 11 s while training, at 2 s a step" in stall.sentence


def test_an_evaluation_may_take_five_times_as_long_as_earlier_ones() -> None:
    times = [2000.0] * 50
    assert find_stall(status("evaluating", 100.0), 98.0, times, 60.0, now=390.0) is None
    assert find_stall(status("evaluating", 100.0), 98.0, times, 60.0, now=401.0) is not None
    assert find_stall(status("evaluating", 100.0), 98.0, times, 2.1, now=9999.0) is None, "the first one"


def test_a_run_that_starts_again_does_not_stand_still() -> None:
    assert find_stall(status("teacher", 5000.0), 100.0, [2000.0] * 50, 60.0, now=9000.0) is None
    assert find_stall(status("training", 9000.0), 100.0, [2000.0] * 50, 60.0, now=9001.0) is None


def test_the_worst_finding_is_the_first() -> None:
    found = [Finding("a", "note", ""), Finding("b", "problem", ""), Finding("c", "warning", "")]
    assert worst_of(found) == "problem" and worst_of([]) is None


def test_a_history_keeps_few_means_of_any_number_of_values() -> None:
    history = ThinnedHistory(24)
    for number in range(100_000):
        history.append(float(number))
    history.append(math.nan)
    means = history.means()
    assert 24 <= len(means) <= 49
    assert list(means) == sorted(means)
    assert means[0] == pytest.approx(100_000 / len(means) / 2, rel=0.2)
