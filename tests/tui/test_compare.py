from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.widgets import OptionList

from qad_core.run.comparison import find_differences
from qad_core.run.jobs import Job, append_job
from qad_core.run.store import RunStore, RunSummary
from qad_tui.app import QadApp
from qad_tui.overlay import distinct_names
from qad_tui.panes.comparison_reader import ComparisonReader, free_path
from qad_tui.panes.curve_charts import BigChart
from qad_tui.screens.compare import CompareScreen
from qad_tui.widgets.chart import ChartView
from qad_tui.widgets.comparison_view import ComparisonView, describe_comparison
from qad_tui.widgets.curve_grid import CurveGrid
from tests.tui.conftest import settle, wait_until, words
from tests.tui.made_fleet import FakeRun


def screen_of(app: QadApp) -> CompareScreen:
    assert isinstance(app.screen, CompareScreen)
    return app.screen


def lines_of(app: QadApp) -> list[str]:
    """Names of the lines on the chart that have points."""
    chart = app.screen.query_one(BigChart).chart
    return [line.name for line in chart.lines if line.points.xs] if chart else []


async def compare_two(app: QadApp, pilot: Pilot[None], fleet: dict[str, FakeRun]) -> None:
    """Open Compare with the running and the done run, and wait for their lines."""
    await wait_until(pilot, lambda: bool(app.fleet.rows))
    await pilot.press("4")
    app.selected = [fleet["running"].folder.path, fleet["done"].folder.path]
    await wait_until(pilot, lambda: len(lines_of(app)) == 2)


def configs_are_compared(app: QadApp) -> bool:
    return screen_of(app).query_one(ComparisonReader).differences is not None


async def test_runs_selected_in_the_list_are_compared_on_one_chart(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: len(app.fleet.rows) == len(fleet) + 1)
        await pilot.press("space", "space", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen) and len(lines_of(app)) == 2)
        assert set(screen_of(app).runs) == {fleet["running"].folder.path, fleet["evaluating"].folder.path}
        await wait_until(pilot, lambda: configs_are_compared(app))
        assert app.screen.query_one(ComparisonView).display


async def test_a_run_is_added_and_taken_away_here(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        await wait_until(pilot, lambda: app.screen.query_one("#compare-empty").display)
        await pilot.press("a")
        await wait_until(pilot, lambda: any(found.option_count for found in app.screen.query(OptionList)))
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(screen_of(app).runs) == 1)
        await pilot.press("d")
        await wait_until(pilot, lambda: any(found.option_count for found in app.screen.query(OptionList)))
        await pilot.press("enter")
        await wait_until(pilot, lambda: screen_of(app).runs == [])


async def test_n_goes_through_the_metrics_of_all_runs(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await compare_two(app, pilot, fleet)
        await pilot.press("n")
        await wait_until(pilot, lambda: (screen_of(app).metric or "").startswith("eval/") and len(lines_of(app)) == 2)
        await pilot.press("N")
        await wait_until(pilot, lambda: screen_of(app).metric == "loss" and len(lines_of(app)) == 2)


async def test_w_writes_csv_and_svg_under_names_that_are_free(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    Path("compare.csv").write_text("mine", encoding="utf-8")
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet["running"].folder.path, fleet["killed"].folder.path]
        await wait_until(pilot, lambda: len(lines_of(app)) == 2)
        await pilot.press("w")
        await wait_until(pilot, lambda: bool(app._notifications))  # pyright: ignore[reportPrivateUsage]
        told = [notification.message for notification in app._notifications]  # pyright: ignore[reportPrivateUsage]
        assert f"{Path('compare-2.csv').absolute()}" in told[-1]
    assert Path("compare.csv").read_text(encoding="utf-8") == "mine"
    with Path("compare-2.csv").open(encoding="utf-8", newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {fleet["running"].name, fleet["killed"].name}


async def test_w_draws_over_the_axis_that_is_on_the_screen(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet["running"].folder.path, fleet["killed"].folder.path]
        await wait_until(pilot, lambda: len(lines_of(app)) == 2)
        await pilot.press("x", "w")
        await wait_until(pilot, lambda: Path("compare-loss-kd.svg").exists())
        await settle(pilot)
    assert ">tokens</text>" in Path("compare-loss-kd.svg").read_text(encoding="utf-8")


async def test_a_run_that_cannot_be_read_is_named_and_the_others_are_compared(
    app: QadApp, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    summarize, refused = app.runs._store.summarize, fleet["killed"].folder.path  # pyright: ignore[reportPrivateUsage]

    def refuse(path: Path) -> RunSummary:
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return summarize(path)

    monkeypatch.setattr(app.runs._store, "summarize", refuse)  # pyright: ignore[reportPrivateUsage]
    gone = refused.with_name("never-there")
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet["running"].folder.path, refused, fleet["done"].folder.path, gone]
        await wait_until(pilot, lambda: len(lines_of(app)) == 2 and configs_are_compared(app))
        said = words(app, "#compare-problems")
        assert f"⚠ {refused.name} is not compared: Permission denied" in said
        assert "⚠ never-there is not compared: it is not among the runs" in said
        app.selected = [gone]
        await wait_until(pilot, lambda: not app.screen.query_one("#compare").display)
        assert not app.screen.query_one("#compare-empty").display


async def test_curves_that_cannot_be_read_on_are_said_above_the_chart(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await compare_two(app, pilot, fleet)
        fleet["done"].folder.metrics.unlink()
        fleet["done"].folder.metrics.mkdir()
        sentence = "⚠ 2: metrics.jsonl cannot be read: Is a directory"
        await wait_until(pilot, lambda: sentence in words(app, "#compare-problems"))
        assert len(lines_of(app)) == 2


async def test_a_run_whose_folder_has_gone_is_called_so(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    def table() -> str:
        console = Console(width=100)
        with console.capture() as capture:
            console.print(app.screen.query_one(ComparisonView).content)
        return capture.get()

    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet["running"].folder.path]
        await wait_until(pilot, lambda: len(lines_of(app)) == 1 and "running" in table())
        shutil.rmtree(fleet["running"].folder.path)
        await wait_until(pilot, lambda: "gone" in table() and "running" not in table())


async def test_runs_without_any_metric_do_not_name_a_next_one(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet["fresh"].folder.path]
        await wait_until(pilot, lambda: "has written a metric yet" in app.export_screenshot().replace("&#160;", " "))


async def test_links_are_marked_with_run_and_job(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    run = fleet["stopped"]
    for number, step in ((7001, 0), (7002, 700)):
        job = Job(id=f"slurm-{number}", kind="slurm", slurm_job_id=str(number), started=run.started + 0.4 * step)
        append_job(run.folder.jobs, job)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet["running"].folder.path, run.folder.path]

        def labels() -> list[str]:
            chart = app.screen.query_one(BigChart).chart
            return [border.label for border in chart.borders] if chart else []

        await wait_until(pilot, lambda: labels() == ["2: job 7002"])


async def test_m_shows_all_metrics_of_all_runs_and_enter_one(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await compare_two(app, pilot, fleet)
        await pilot.press("m")
        grid = app.screen.query_one(CurveGrid)

        def lines_in_grid() -> list[int]:
            charts = [view.chart for view in grid.query(ChartView)]
            return [len(chart.lines) for chart in charts if chart]

        await wait_until(pilot, lambda: len(lines_in_grid()) > 4 and lines_in_grid()[0] == 2)
        assert grid.keys[0] == "loss" and "grad_norm" in grid.keys and not app.screen.query_one(BigChart).display
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: screen_of(app).metric == grid.keys[grid.keys.index("loss") + 1])
        await wait_until(pilot, lambda: len(lines_of(app)) >= 1 and app.screen.query_one(BigChart).display)


async def test_a_line_has_the_number_that_its_run_has_in_the_table(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet[name].folder.path for name in ("fresh", "running", "done")]
        await wait_until(pilot, lambda: len(lines_of(app)) == 2)
        legend = "".join(app.screen.query_one(BigChart).render_line(y).text for y in range(3))
        assert "2━" in legend and "3━" in legend and "1━" not in legend


def test_a_run_without_a_config_is_said_to_have_none(fleet: dict[str, FakeRun]) -> None:
    paths = [fleet[name].folder.path for name in ("running", "done")]
    (paths[1] / "config.yaml").unlink(missing_ok=True)
    found = find_differences([RunStore([]).summarize(path) for path in paths])
    assert found.unknown[paths[1].name] == "there is no config.yaml"


def test_names_are_told_apart_by_what_they_do_not_share() -> None:
    assert distinct_names(["a-b-lr1", "a-b-lr1-qat"]) == ["lr1", "lr1-qat"]
    assert distinct_names(["a-x-c", "a-y-c"]) == ["x-c", "y-c"]
    assert distinct_names(["one"]) == ["one"]


def test_names_are_cut_at_their_own_parts_and_never_within_a_number_or_a_model() -> None:
    name = "Smol-1-Teacher-Smol-1-Data-web-text-lr1e-06"
    assert distinct_names([name, f"{name}-killed"]) == ["lr1e-06", "lr1e-06-killed"]
    assert distinct_names([name, name.replace("1e-06", "2e-06")]) == ["lr1e-06", "lr2e-06"]
    assert distinct_names([name, name.replace("web-text", "web-code")]) == ["web-text-lr1e-06", "web-code-lr1e-06"]
    assert distinct_names(["old-lr1e-06", "old-lr1e-06-b"]) == ["lr1e-06", "lr1e-06-b"]


def test_a_free_name_is_the_first_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "compare.csv"
    assert free_path(path) == path
    for name in ("compare.csv", "compare-2.csv"):
        (tmp_path / name).touch()
    assert free_path(path).name == "compare-3.csv"


@pytest.mark.parametrize("dark", [True, False])
def test_configs_that_are_being_read_are_said_to_be(dark: bool) -> None:
    assert "reading their configs" in str(describe_comparison([], None, dark=dark, width=80).renderables[-1])
