from __future__ import annotations

import csv
from pathlib import Path

import pytest
from textual.widgets import OptionList

from qad_tui.app import QadApp
from qad_tui.overlay import distinct_names
from qad_tui.panes.curve_charts import BigChart
from qad_tui.screens.compare import CompareScreen, free_path
from qad_tui.widgets.comparison_view import ComparisonView, describe_comparison
from tests.tui.conftest import settle, wait_until
from tests.tui.made_fleet import FakeRun


def screen_of(app: QadApp) -> CompareScreen:
    assert isinstance(app.screen, CompareScreen)
    return app.screen


def lines_of(app: QadApp) -> list[str]:
    """Names of the lines on the chart that have points."""
    chart = app.screen.query_one(BigChart).chart
    return [line.name for line in chart.lines if line.points.xs] if chart else []


async def test_runs_selected_in_the_list_are_compared_on_one_chart(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: len(app.fleet.rows) == len(fleet) + 1)
        await pilot.press("space", "space", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen) and len(lines_of(app)) == 2)
        assert set(screen_of(app).runs) == {fleet["running"].folder.path, fleet["evaluating"].folder.path}
        await wait_until(pilot, lambda: screen_of(app).differences is not None)
        assert app.screen.query_one(ComparisonView).display


async def test_a_run_is_added_and_taken_away_here(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        await wait_until(pilot, lambda: app.screen.query_one("#compare-empty").display)
        await pilot.press("a")
        await wait_until(pilot, lambda: bool(app.screen.query(OptionList)))
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(screen_of(app).runs) == 1)
        await pilot.press("d")
        await wait_until(pilot, lambda: bool(app.screen.query(OptionList)))
        await pilot.press("enter")
        await wait_until(pilot, lambda: screen_of(app).runs == [])


async def test_n_goes_through_the_metrics_of_all_runs(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        await pilot.press("4")
        app.selected = [fleet["running"].folder.path, fleet["done"].folder.path]
        await wait_until(pilot, lambda: len(lines_of(app)) == 2)
        await pilot.press("n")
        await wait_until(pilot, lambda: screen_of(app).metric.startswith("eval/") and len(lines_of(app)) == 2)
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
        await wait_until(pilot, lambda: Path("compare-loss-kd.svg").exists())
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
