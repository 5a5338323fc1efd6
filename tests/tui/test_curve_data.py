from __future__ import annotations

import math

from qad_tui.curve_data import COLUMNS_A_MARK, CurveData


def lines_of(losses: list[float], first_step: int = 1) -> list[dict[str, float | int | None]]:
    return [{"step": step, "loss/kd": loss} for step, loss in enumerate(losses, first_step)]


def test_few_points_come_back_whole() -> None:
    data = CurveData()
    data.extend(lines_of([3.0, 2.0, 1.0]))
    assert data.curve(10).line.steps == (1, 2, 3)
    assert data.curve(10).line.values == (3, 2, 1)


def test_decimation_keeps_every_spike_and_the_order_of_steps() -> None:
    losses = [1.0] * 10_000
    losses[1234], losses[7777] = 50.0, -50.0
    data = CurveData()
    data.extend(lines_of(losses))
    line = data.curve(60).line
    assert len(line) <= 240
    assert (1235.0, 50.0) in zip(line.steps, line.values, strict=True)
    assert (7778.0, -50.0) in zip(line.steps, line.values, strict=True)
    assert list(line.steps) == sorted(line.steps)


def test_values_that_are_not_finite_are_left_out_of_the_line_and_named() -> None:
    data = CurveData()
    data.extend(lines_of([1.0, math.nan, math.inf, 2.0]))
    curve = data.curve(10)
    assert curve.line.steps == (1, 4)
    assert curve.non_finite_steps == (2, 3)


def test_steps_written_again_by_a_resumed_run_replace_the_old_ones() -> None:
    data = CurveData()
    data.extend(lines_of([5.0, 4.0, 3.0, 2.0]))
    data.extend(lines_of([3.5], first_step=3))
    assert data.curve(10).line.values == (5, 4, 3.5)


def test_evaluations_are_marked_apart_and_thinned_where_they_would_hide_the_line() -> None:
    data = CurveData()
    data.extend([{"step": step, "eval/kl": 1.0 / (step + 1), "eval/ce": 2.0} for step in range(200)])
    marks = data.curve(80).evaluations
    assert len(marks) == 80 // COLUMNS_A_MARK
    assert (marks.steps[0], marks.steps[-1]) == (0, 199)


def test_nulls_and_lines_without_a_step_are_left_out() -> None:
    data = CurveData()
    data.extend([{"step": 1, "loss/kd": None}, {"loss/kd": 1.0}])
    assert data.curve(10).line.steps == ()


def test_the_same_lines_give_an_equal_curve() -> None:
    first, second = CurveData(), CurveData()
    for data in (first, second):
        data.extend(lines_of([float(step % 7) for step in range(5000)]))
    assert first.curve(50) == second.curve(50)
