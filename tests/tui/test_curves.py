"""Curves on the screen: the grid, one chart with the room to itself, and the keys and mouse that change them."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from textual.events import MouseScrollUp
from textual.pilot import Pilot
from textual.widgets import Input
from torch.utils.tensorboard import SummaryWriter

from qad_core.run.jobs import Job, append_job
from qad_tui.app import QadApp
from qad_tui.charts import Chart, Line
from qad_tui.panes.curve_charts import BigChart
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.screens.runs import RunsScreen
from qad_tui.widgets.chart import ChartView
from qad_tui.widgets.curve_grid import CurveGrid
from tests.tui.conftest import NARROW, WIDE, card_says, list_is_filled, wait_until, words
from tests.tui.made_fleet import FakeRun, make_fleet, spoil_metrics


def big(app: QadApp) -> BigChart:
    return app.screen.query_one(BigChart)


def chart_of(app: QadApp) -> Chart:
    """What the one chart shows."""
    return big(app).chart or Chart()


def line_of(app: QadApp) -> Line:
    """Its one line."""
    lines = chart_of(app).lines
    return lines[0] if lines else Line("")


def text_of(view: ChartView) -> str:
    """What is to be seen of a chart."""
    return "\n".join(view.render_line(y).text for y in range(view.size.height))


async def curves_are_open(app: QadApp, pilot: Pilot[None], path: Path, keys: int = 11) -> CurveGrid:
    """Open a run's Curves and wait until all metrics are shown."""
    app.open_run(path, tab="curves")
    await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen) and bool(app.screen.query(CurveGrid)))
    grid = app.screen.query_one(CurveGrid)
    await wait_until(pilot, lambda: len(grid.keys) == keys and app.screen.focused is grid)
    return grid


async def loss_is_open(app: QadApp, pilot: Pilot[None], run: FakeRun) -> BigChart:
    """Open a run's loss with the room to itself, cut for its width."""
    await curves_are_open(app, pilot, run.folder.path)
    await pilot.press("enter")
    await wait_until(pilot, lambda: app.screen.focused is big(app) and len(line_of(app).points) > 40)
    return big(app)


async def test_a_run_of_cross_entropy_is_drawn_as_one(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("j", "j", "j", "j")
        await wait_until(pilot, lambda: line_of(app).name == "CE loss")
        assert "CE loss and held-out CE" in str(big(app).border_title)
        assert line_of(app).extent is not None and min(line_of(app).evaluations.values) > 2


async def test_a_run_is_shown_while_it_grows(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    run = fleet["running"]

    def grow() -> None:
        for _ in range(20):
            run.train(1)
            time.sleep(0.02)

    async with app.run_test(size=WIDE) as pilot:
        await wait_until(pilot, lambda: line_of(app).newest_evaluation is not None)
        before = line_of(app)
        grower = threading.Thread(target=grow)
        grower.start()
        await wait_until(pilot, lambda: (whole := chart_of(app).whole) is not None and whole.last == 340)
        grower.join()
        assert line_of(app).newest != before.newest
        await wait_until(pilot, lambda: line_of(app).evaluations.xs[-1] == 340)


async def test_an_unchanged_chart_is_not_drawn_again(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await wait_until(pilot, lambda: len(line_of(app).points) > 20)
        await pilot.pause(0.3)
        count = big(app).drawn
        await pilot.pause(0.5)
        assert big(app).drawn == count
        fleet["running"].train(1)
        await wait_until(pilot, lambda: big(app).drawn > count)


async def test_the_scale_is_linear_or_logarithmic_on_every_screen(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "step 320 of 600")
        await pilot.press("L")
        await wait_until(pilot, lambda: chart_of(app).log_scale and "log scale" in str(big(app).border_title))
        await curves_are_open(app, pilot, fleet["running"].folder.path)
        assert "log scale" in words(app, "#curve-words")
        await pilot.press("y", "escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await wait_until(pilot, lambda: not chart_of(app).log_scale)


async def test_all_metrics_stand_in_a_grid_and_enter_gives_one_the_room(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        grid = await curves_are_open(app, pilot, fleet["running"].folder.path)
        assert grid.keys[:4] == ("loss/kd", "eval/kl", "grad_norm", "learning_rate")
        await pilot.press("right", "down", "left", "left")
        assert grid.chosen == "grad_norm"
        await pilot.press("G")
        assert grid.chosen == "eval/top1_agreement"
        await wait_until(pilot, lambda: grid.scroll_y > 0)
        await pilot.press("g", "j", "enter")
        await wait_until(pilot, lambda: big(app).display and line_of(app).name == "gradient norm")
        await wait_until(pilot, lambda: app.screen.focused is big(app))
        await pilot.press("n")
        await wait_until(pilot, lambda: line_of(app).name == "learning rate")
        await pilot.press("N", "N")
        await wait_until(pilot, lambda: line_of(app).name == "held-out KL")
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen.focused is grid and grid.chosen == "eval/kl")
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_curves_that_come_after_quitting_are_left(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        grid = await curves_are_open(app, pilot, fleet["running"].folder.path)
        shown = grid.keys
        app.exit()
        grid.show(("loss/new",), lambda key: None)
        assert grid.keys == shown


async def test_a_click_opens_a_metric(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        grid = await curves_are_open(app, pilot, fleet["running"].folder.path)
        await wait_until(pilot, lambda: grid.query(ChartView)[2].region.x > 0)  # it has come to its place
        await pilot.click(grid.query(ChartView)[2])
        await wait_until(pilot, lambda: line_of(app).name == "gradient norm")


async def test_zoom_shows_more_detail_and_pan_moves_it(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await loss_is_open(app, pilot, fleet["running"])
        assert line_of(app).band.xs and len(line_of(app).points) < 320
        for _ in range(6):
            await pilot.press("plus")
        await wait_until(pilot, lambda: not line_of(app).band.xs and len(line_of(app).points) < 45)
        view = chart_of(app).view
        assert view is not None and "zoomed" in str(big(app).border_title)
        await pilot.press("right", "right_square_bracket")
        await wait_until(pilot, lambda: line_of(app).points.xs[0] > view.first)
        await pilot.press("left", "left_square_bracket")
        assert (back := chart_of(app).view) is not None and back.first == pytest.approx(view.first, abs=1e-6)
        await pilot.press("0")
        assert chart_of(app).view is None


async def test_the_wheel_zooms_about_the_pointer_and_a_drag_pans(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        chart = await loss_is_open(app, pilot, fleet["running"])
        await pilot.pause(0.1)
        right = (chart.size.width - 1, 10)
        await pilot._post_mouse_events([MouseScrollUp], chart, right)  # pyright: ignore[reportPrivateUsage]
        await wait_until(pilot, lambda: chart_of(app).view is not None)
        view = chart_of(app).view
        assert view is not None and view.last == pytest.approx(320, abs=2) and view.first > 60
        await pilot.mouse_down(chart, offset=(40, 10))
        await pilot.hover(chart, offset=(60, 10))
        await pilot.mouse_up(chart, offset=(60, 10))
        await wait_until(pilot, lambda: (now := chart_of(app).view) is not None and now.first < view.first)


async def test_s_smooths_over_the_raw_values_and_x_changes_the_axis(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await loss_is_open(app, pilot, fleet["running"])
        plain = line_of(app).points
        await pilot.press("s")
        await wait_until(pilot, lambda: line_of(app).points.values != plain.values)
        assert line_of(app).points.xs == plain.xs and "smoothed 0.6" in str(big(app).border_title)
        await pilot.press("s", "s")
        await wait_until(pilot, lambda: line_of(app).points == plain)
        await pilot.press("x")
        await wait_until(pilot, lambda: chart_of(app).x_axis == "tokens")
        assert (whole := chart_of(app).whole) is not None and whole.last == 320 * 512
        await pilot.press("x")
        await wait_until(pilot, lambda: chart_of(app).x_axis == "time")


async def test_v_reads_values_out_at_a_cursor(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        chart = await loss_is_open(app, pilot, fleet["running"])
        await pilot.press("v")
        assert "step 320" in text_of(chart)
        await pilot.press(*["left"] * 5)
        assert chart.cursor is not None and 290 < chart.cursor < 320
        assert f"step {chart.cursor:.0f}" in text_of(chart)
        await pilot.press("v")
        assert chart.cursor is None and "step 3" not in text_of(chart)


async def test_slash_filters_metrics_and_typing_is_not_taken_for_keys(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        grid = await curves_are_open(app, pilot, fleet["running"].folder.path)
        await pilot.press("slash", *"ent")
        assert app.screen.query_one("#curve-filter", Input).value == "ent"
        await wait_until(pilot, lambda: grid.keys == ("grad_norm", "eval/top1_agreement") or len(grid.keys) < 11)
        assert "metrics match 'ent'" in words(app, "#curve-words")
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.screen.focused is grid)
        await pilot.press("escape")
        await wait_until(pilot, lambda: len(grid.keys) == 11)
        assert isinstance(app.screen, RunDetailScreen)


async def test_borders_of_links_are_marked_with_their_job(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    run = fleet["stopped"]
    for number, step in ((7001, 0), (7002, 700)):
        job = Job(id=f"slurm-{number}", kind="slurm", slurm_job_id=str(number), started=run.started + 0.4 * step)
        append_job(run.folder.jobs, job)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await loss_is_open(app, pilot, run)
        await wait_until(pilot, lambda: [border.label for border in chart_of(app).borders] == ["job 7002"])
        assert chart_of(app).borders[0].x == pytest.approx(700, abs=2)
        assert "┊job 7002" in text_of(big(app))


async def test_a_run_of_other_scripts_is_read_from_its_event_files(app: QadApp, root: Path) -> None:
    folder = root / "megatron-run"
    (folder / "checkpoints").mkdir(parents=True)
    for start, first in enumerate((1, 41)):
        writer = SummaryWriter(str(folder / "tensorboard" / "model"), filename_suffix=f".{start}")
        for step in range(first, first + 60):
            writer.add_scalar("lm loss", 2 + 1 / step + start, step, walltime=1e9 + step)
            writer.add_scalar("grad-norm", 1.0, step, walltime=1e9 + step)
        writer.close()
        made = max((folder / "tensorboard" / "model").iterdir(), key=lambda path: path.name.endswith(f".{start}"))
        made.rename(made.with_name(f"events.out.tfevents.{1_700_000_000 + start}.host"))
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot, rows=1)
        await wait_until(pilot, lambda: line_of(app).name == "CE loss")
        line = line_of(app)
        assert line.extent is not None and line.extent.last == 100
        assert [border.x for border in chart_of(app).borders] == [41]
        grid = await curves_are_open(app, pilot, folder, keys=2)
        assert grid.keys == ("loss/ce", "grad_norm")


async def test_lines_that_cannot_be_read_are_counted_beside_the_curve(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    spoil_metrics(fleet["running"])
    async with app.run_test(size=WIDE) as pilot:
        await wait_until(pilot, lambda: "⚠ 1 unreadable line left out" in text_of(big(app)))
        await curves_are_open(app, pilot, fleet["running"].folder.path)
        assert "⚠ 1 unreadable line left out" in words(app, "#curve-words")


async def test_steps_without_a_finite_loss_are_marked(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("j", "j", "j")
        await wait_until(pilot, lambda: "× 3 steps not finite" in text_of(big(app)))
        assert text_of(big(app)).splitlines()[-3].endswith("×")


async def test_a_run_without_metrics_says_when_the_first_comes(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        app.open_run(fleet["fresh"].folder.path, tab="curves")
        await wait_until(pilot, lambda: bool(app.screen.query(BigChart)) and "No metrics yet" in text_of(big(app)))
        await pilot.press("n", "v", "left", "plus", "escape")
        await wait_until(pilot, lambda: isinstance(app.screen, RunsScreen))


async def test_a_vanished_run_keeps_its_curves(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        grid = await curves_are_open(app, pilot, fleet["running"].folder.path)
        shutil.rmtree(fleet["running"].folder.path)
        await pilot.pause(0.5)
        assert len(grid.keys) == 11
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(line_of(app).points) > 20)


async def test_metrics_that_may_not_be_read_say_so_and_stay(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        grid = await curves_are_open(app, pilot, fleet["done"].folder.path)
        fleet["done"].folder.metrics.unlink()
        fleet["done"].folder.metrics.mkdir()
        await wait_until(pilot, lambda: "⚠ metrics.jsonl cannot be read" in words(app, "#curve-words"))
        assert len(grid.keys) == 11


async def test_charts_have_colours_of_the_theme(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await wait_until(pilot, lambda: len(line_of(app).points) > 20)
        colours: list[set[str]] = []
        for theme in ("textual-dark", "textual-light"):
            app.theme = theme
            await pilot.pause()
            strips = [big(app).render_line(y) for y in range(big(app).size.height)]
            colours.append(
                {
                    segment.style.color.name
                    for strip in strips
                    for segment in strip
                    if segment.style and segment.style.color
                }
            )
        assert not colours[0] & colours[1]


async def test_no_color_is_heeded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    fleet = make_fleet(root, now=time.time())
    app = QadApp([root], poll_seconds=0.1)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await curves_are_open(app, pilot, fleet["running"].folder.path)
        await wait_until(pilot, lambda: "◆" in app.export_screenshot())


async def test_the_keys_of_the_charts_are_in_the_help(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await curves_are_open(app, pilot, fleet["running"].folder.path)
        await pilot.press("question_mark")
        await wait_until(pilot, lambda: "Smooth" in app.export_screenshot())


async def test_two_thousand_metrics_open_at_once_and_only_those_in_sight_are_widgets(app: QadApp, root: Path) -> None:
    folder = root / "many-metrics"
    folder.mkdir(parents=True)
    lines = [{"step": step, **{f"layer/{number:04}": step + number for number in range(2000)}} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot, rows=1)
        began = time.monotonic()
        grid = await curves_are_open(app, pilot, folder, keys=2000)
        await wait_until(pilot, lambda: text_of(grid.query(ChartView)[0]).strip() != "reading …")
        assert time.monotonic() - began < 5
        await pilot.press("G")
        await wait_until(pilot, lambda: "layer/1999" in str(grid.query(ChartView)[-1].border_title))
        assert grid.chosen == "layer/1999" and grid.scroll_y == grid.max_scroll_y > 5000
        assert len(grid.query(ChartView)) < 40
        await pilot.press("k", "enter")
        await wait_until(pilot, lambda: line_of(app).name == "layer/1996")
