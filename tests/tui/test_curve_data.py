"""Series, decimation, axes and drawing of curves, without a screen."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from pathlib import Path

import pytest

from qad_core.run.metrics import MetricsLine, MetricsWriter
from qad_tui.axes import Scale, value_labels, x_ticks, x_words, y_ticks
from qad_tui.chart_drawing import draw_chart
from qad_tui.charts import Border, Chart, Line, Points, XRange
from qad_tui.curve_data import CE_LOSS, KD_LOSS, CurveData
from qad_tui.curve_lines import Cut, cut_line, smooth, starts_of_jobs
from qad_tui.run_follower import LOSS_ONLY, CurveFollower, Curves, CurvesWanted
from tests.tui.made_fleet import FakeRun, spoil_metrics


def data_of(losses: list[float], first_step: int = 1) -> CurveData:
    data = CurveData()
    data.extend(lines_of(losses, first_step))
    return data


def lines_of(losses: list[float], first_step: int = 1) -> list[MetricsLine]:
    return [
        {"step": step, "time": 1e9 + 2 * step, "consumed_tokens": 100 * step, "loss/kd": loss}
        for step, loss in enumerate(losses, first_step)
    ]


def text_of(chart: Chart, width: int = 60, height: int = 12) -> list[str]:
    return ["".join(text for text, _ in row) for row in draw_chart(chart, width, height).rows]


def served(follower: CurveFollower, wanted: CurvesWanted) -> list[Curves]:
    return list(follower.serve()) if follower.ask(wanted) else []


def test_few_points_come_back_whole() -> None:
    line = cut_line(data_of([3.0, 2.0, 1.0]), "loss/kd", Cut(10))
    assert (line.points.xs, line.points.values) == ((1, 2, 3), (3, 2, 1))
    assert line.band.xs == () and line.extent == XRange(1, 3)


def test_many_points_become_means_with_a_band_in_which_every_spike_is() -> None:
    losses = [1.0] * 10_000
    losses[1234], losses[7777] = 50.0, -50.0
    line = cut_line(data_of(losses), "loss/kd", Cut(60))
    assert len(line.points) <= 120 and list(line.points.xs) == sorted(line.points.xs)
    assert max(line.band.highest) == 50 and min(line.band.lowest) == -50
    assert math.isclose(max(line.points.values), 1 + 49 / 84, rel_tol=0.01)


def test_a_zoom_shows_detail_that_the_whole_does_not() -> None:
    data = data_of([float(step % 2) for step in range(10_000)])
    line = cut_line(data, "loss/kd", Cut(60, view=XRange(5000, 5020)))
    assert set(line.points.values) == {0.0, 1.0}
    assert (line.points.xs[0], line.points.xs[-1]) == (4999, 5021)
    assert line.extent == XRange(1, 10_000)


def test_values_that_are_not_finite_are_left_out_of_the_line_and_marked() -> None:
    line = cut_line(data_of([1.0, math.nan, math.inf, 2.0]), "loss/kd", Cut(10))
    assert line.points.xs == (1, 4)
    assert line.non_finite == (2, 3) and line.non_finite_count == 2


def test_steps_written_again_by_a_resumed_run_replace_the_old_ones() -> None:
    data = data_of([5.0, 4.0, 3.0, 2.0])
    data.extend(lines_of([3.5], first_step=3))
    assert list(data.series("loss/kd").values) == [5, 4, 3.5]
    data.extend([*lines_of([9.0, 9.0], first_step=4), *lines_of([1.0], first_step=2)])
    assert list(data.series("loss/kd").values) == [5, 1.0]


def test_nulls_and_lines_without_a_step_are_left_out() -> None:
    data = CurveData()
    data.extend([{"step": 1, "loss/kd": None}, {"loss/kd": 1.0}])
    assert data.keys() == []


def test_metrics_stand_in_a_sensible_order_without_axes_and_without_counts_that_are_0() -> None:
    data = CurveData()
    data.extend([{"step": 1, "time": 1.0, "zebra": 1, "eval/ce": 1, "skipped": 0, "grad_norm": 1, "loss/kd": 1}])
    assert data.keys() == ["loss/kd", "grad_norm", "eval/ce", "zebra"]
    data.extend([{"step": 2, "skipped": 1}])
    assert "skipped" in data.keys()


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        (("loss/kd", "loss/ce"), KD_LOSS.key),
        (("loss/ce", "eval/kl"), CE_LOSS.key),
        (("eval/kl",), KD_LOSS.key),
        (("train loss",), "train loss"),
    ],
)
def test_the_loss_is_what_the_run_minimizes(keys: tuple[str, ...], key: str) -> None:
    data = CurveData()
    data.extend([{"step": 1, **dict.fromkeys(keys, 1.0)}])
    assert data.loss().key == key


def test_evaluations_are_marked_on_the_loss_the_first_and_the_newest_among_them() -> None:
    data = data_of([1.0] * 1000)
    data.extend([{"step": step, "eval/kl": 1.0 / (step + 1)} for step in range(0, 1001, 5)])
    chart = Chart((cut_line(data, "loss/kd", Cut(72)),))
    rows = text_of(chart, 80, 20)
    columns = sorted(column for row in rows[1:] for column, character in enumerate(row) if character == "◆")
    assert (columns[0], columns[-1]) == (8, 79)
    assert min(after - before for before, after in pairwise(columns)) >= 2
    assert "held-out KL 9.99e-04" in rows[0]


@pytest.mark.parametrize(("axis", "last"), [("step", 10), ("tokens", 1000), ("time", 18)])
def test_the_x_axis_is_steps_tokens_or_seconds_since_the_first_step(axis: str, last: float) -> None:
    line = cut_line(data_of([1.0] * 10), "loss/kd", Cut(20, x_axis=axis))  # type: ignore[arg-type]
    assert line.points.xs[-1] == last


def test_an_evaluation_at_step_0_stands_at_0_tokens() -> None:
    data = data_of([1.0] * 10)
    data.extend([{"step": 0, "time": 1e9, "eval/kl": 2.0}])
    assert cut_line(data, "loss/kd", Cut(20, x_axis="tokens")).evaluations.xs == (0,)


def test_smoothing_is_not_pulled_towards_0_and_keeps_the_raw_line() -> None:
    assert smooth(Points((1, 2, 3), (4.0, 4.0, 4.0)), 0.9).values == pytest.approx((4, 4, 4))
    line = cut_line(data_of([0.0, 1.0, 0.0, 1.0]), "loss/kd", Cut(20, smoothing=0.9))
    assert line.raw.values == (0, 1, 0, 1) and 0.3 < line.points.values[-1] < 0.7


def test_starts_lie_where_the_run_was_then_but_for_the_first() -> None:
    starts = [(1e9, "job 1"), (1e9 + 11, "job 2"), (1e9 + 999, "job 3")]
    assert starts_of_jobs(data_of([1.0] * 10), starts, "step") == (Border(6, "job 2"),)


def test_a_view_zooms_about_a_place_and_never_leaves_the_axis() -> None:
    whole = XRange(0, 100)
    view = whole.zoomed(0.5, 80, whole)
    assert view == XRange(40, 90)
    assert view is not None and view.moved(1, whole) == XRange(50, 100)
    assert view.zoomed(2, 60, whole) is None
    for _ in range(100):
        view = (view or whole).zoomed(0.5, 50, whole)
    assert view is not None and view.width == pytest.approx(100 * 1e-5)


def test_tick_labels_tell_neighbours_apart() -> None:
    assert value_labels([2.25, 2.5]) == ["2.25", "2.50"]
    assert value_labels([2.5]) == ["2.5"]
    assert value_labels([0.0, 5e-7, 1e-6]) == ["0", "5e-7", "1e-6"]
    assert [tick.label for tick in x_ticks("tokens", Scale(0, 3e9, 200), 100)][-1] == "3G"
    assert [tick.label for tick in x_ticks("time", Scale(0, 8000, 200), 100)][1] == "20 min"
    assert [tick.label for tick in y_ticks(Scale(-3, 0, 80, log_scale=True), 20)] == [
        "0.001",
        "0.003",
        "0.01",
        "0.03",
        "0.1",
        "0.3",
        "1",
    ]
    narrow = Scale(math.log10(2.49), math.log10(2.51), 80, log_scale=True)
    assert [tick.label for tick in y_ticks(narrow, 8)] == ["2.49", "2.50", "2.51"]
    assert x_words("step", 1234.4) == "step 1,234"


def test_a_chart_has_marks_for_all_that_is_not_a_line() -> None:
    line = Line("loss", Points((1, 5, 9), (1.0, 2.0, 3.0)), non_finite=(4,), non_finite_count=1, newest=3.0)
    rows = text_of(Chart((line,), borders=(Border(5, "job 77"),), notes=("reading …",)), 80)
    assert "━ loss 3.000" in rows[0] and "× 1 step not finite" in rows[0] and "reading …" in rows[0]
    assert "┊job 77" in rows[1] and "×" in rows[-3]


def test_lines_of_several_runs_are_told_apart_without_colours() -> None:
    lines = tuple(
        Line(name, Points((0, 9), (low, low + 1)), number) for number, (name, low) in enumerate([("a", 0), ("b", 5)])
    )
    rows = text_of(Chart(lines))
    assert "1━ a" in rows[0] and "2━ b" in rows[0]
    assert rows[1].endswith("2") or rows[2].endswith("2")
    assert {role for row in draw_chart(Chart(lines), 60, 12).rows for _, role in row} >= {"line0", "line1"}


def test_values_are_read_out_at_a_cursor() -> None:
    line = Line("loss", Points((0, 5, 10), (1.0, 2.0, 3.0)), newest=3.0)
    drawing = draw_chart(Chart((line,)), 60, 12, cursor=5.2)
    words = "".join(text for text, _ in drawing.rows[0])
    assert "step 5" in words and "loss 2.000" in words
    assert any("●" in text for row in drawing.rows for text, role in row if role == "cursor")


@pytest.mark.parametrize(
    ("chart", "words"),
    [
        (Chart(), "No metrics yet"),
        (Chart((Line("loss", non_finite=(1,)),)), "no value is finite."),
        (Chart((Line("loss", Points((1, 2), (-1.0, -2.0))),), log_scale=True), "above 0. `y` goes back"),
    ],
)
def test_an_empty_chart_says_why(chart: Chart, words: str) -> None:
    assert words in "".join(text_of(chart)).replace("  ", " ")


@pytest.mark.parametrize("seed", range(20))
def test_no_chart_leaves_its_place(seed: int) -> None:
    chance = random.Random(seed)
    width, height = chance.randint(1, 90), chance.randint(1, 30)
    data = data_of(
        [chance.choice([chance.lognormvariate(0, 9), math.nan, -1.0, 1e300]) for _ in range(chance.randint(1, 400))]
    )
    data.extend([{"step": step, "eval/kl": chance.random()} for step in range(0, 400, 7)])
    cut = Cut(max(1, width - 8), smoothing=chance.choice([0, 0.9]))
    chart = Chart((cut_line(data, "loss/kd", cut),), log_scale=chance.random() < 0.5, borders=(Border(20, "job 1"),))
    drawing = draw_chart(chart, width, height)
    rows = ["".join(text for text, _ in row) for row in drawing.rows]
    assert len(rows) <= height
    if drawing.x_scale is not None:
        assert {len(row) for row in rows[-height // 2 :]} == {width}


def test_a_constant_is_a_flat_line_whatever_the_rounding() -> None:
    line = cut_line(data_of([2.1] * 3000), "loss/kd", Cut(60, smoothing=0.6))
    labels = {row[:8].strip(" │┤") for row in text_of(Chart((line,)))[1:-2]}
    assert labels == {"", "2.2", "2.0"}


def test_a_large_file_is_sketched_at_once_and_read_whole_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qad_tui.curve_sources.SKETCHED_BYTES", 10_000)
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    for line in lines_of([1.0 / step for step in range(1, 20_001)]):
        writer.write(line)
    follower, wanted = CurveFollower(tmp_path), CurvesWanted(80, LOSS_ONLY)
    sketch, whole = served(follower, wanted)
    first, last = sketch.charts["loss/kd"], whole.charts["loss/kd"]
    assert first.notes == ("reading 0 % …",) and last.notes == ()
    assert first.whole == last.whole == XRange(1, 20_000)
    assert served(follower, wanted) == []
    writer.write({"step": 20_001, "loss/kd": 0.0})
    (more,) = served(follower, wanted)
    assert more.charts["loss/kd"].whole == XRange(1, 20_001)


def test_a_run_is_followed_through_cuts_bad_lines_and_its_end(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, "run", 100, 1e9)
    follower, wanted = CurveFollower(run.folder.path), CurvesWanted(80)
    (empty,) = served(follower, wanted)
    assert "No metrics yet" in empty.empty_words
    run.train(10)
    (curves,) = served(follower, wanted)
    assert curves.keys[:3] == ("loss/kd", "eval/kl", "grad_norm")
    spoil_metrics(run)
    (curves,) = served(follower, wanted)
    assert curves.charts["loss/kd"].notes == ("⚠ 1 unreadable line left out",)
    MetricsWriter(run.folder.metrics, keep_through_step=4).close()
    (curves,) = served(follower, wanted)
    assert curves.charts["loss/kd"].whole == XRange(0, 4) and curves.charts["loss/kd"].notes == ()
    run.folder.metrics.unlink()
    assert served(follower, wanted) == [] and follower.last == curves


def test_a_file_that_may_not_be_read_says_so_and_what_was_known_stays(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, "run", 100, 1e9)
    run.train(10)
    follower, wanted = CurveFollower(run.folder.path), CurvesWanted(80, LOSS_ONLY)
    served(follower, wanted)
    run.folder.metrics.unlink()
    run.folder.metrics.mkdir()
    (curves,) = served(follower, wanted)
    assert curves.problem == "metrics.jsonl cannot be read: Is a directory"
    assert len(curves.charts["loss/kd"].lines[0].points) == 10


def test_an_axis_that_nobody_knows_falls_back_to_steps_and_says_so(tmp_path: Path) -> None:
    from qad_tui.charts import CurveOptions

    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.write({"step": 1, "time": 1.0, "loss/kd": 1.0})
    (curves,) = served(CurveFollower(tmp_path), CurvesWanted(80, LOSS_ONLY, CurveOptions(x_axis="tokens")))
    chart = curves.charts["loss/kd"]
    assert chart.x_axis == "step" and chart.notes == ("no tokens known: over steps",)
