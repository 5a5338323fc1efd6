"""Pictures of the screens at three terminal sizes; `pytest --snapshot-update` accepts new ones after a look at them."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from typing import Protocol

import pytest
from textual.app import App
from textual.pilot import Pilot

from qad_tui.app import QadApp
from qad_tui.panes.curve_charts import BigChart
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.widgets.log_view import LogView
from qad_tui.widgets.run_table import RunTable
from tests.tui.conftest import settle, wait_until
from tests.tui.made_fleet import FakeRun

SIZES = [(80, 24), (120, 40), (200, 50)]
of_each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


class Compare(Protocol):
    """The fixture of pytest-textual-snapshot."""

    def __call__(
        self, app: App[None], *, terminal_size: tuple[int, int], run_before: Callable[[Pilot[None]], Awaitable[None]]
    ) -> bool: ...


def pressing(*keys: str, until: Callable[[QadApp], bool]) -> Callable[[Pilot[None]], Awaitable[None]]:
    """Wait for the list, press the keys, wait until the screen shows what is asked for."""

    async def run_before(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, QadApp)
        await wait_until(pilot, lambda: any(len(table.rows) == 8 for table in app.screen.query(RunTable)))
        await settle(pilot)
        await pilot.press(*keys)
        await pilot.pause(0.5)  # the run beside the list follows the cursor when that rests
        await wait_until(pilot, lambda: until(app))
        await settle(pilot)

    return run_before


def run_is_opened(app: QadApp) -> bool:
    """Whether a run has the screen to itself."""
    return isinstance(app.screen, RunDetailScreen)


def list_is_shown(app: QadApp) -> bool:
    """Whether the list is there, and the run beside it where there is room."""
    charts, logs = app.screen.query(BigChart), app.screen.query(LogView)
    if app.size.width < 100:
        return True
    return all(chart.chart is not None for chart in charts) and any(logs) and all(log.lines for log in logs)


@of_each_size
def test_the_list(app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing(until=list_is_shown))


@of_each_size
def test_the_overview_of_a_run(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing("enter", until=run_is_opened))


@of_each_size
def test_a_failed_run(app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing("j", "j", "j", "enter", until=run_is_opened))


@of_each_size
def test_a_finished_run(app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await pressing(until=list_is_shown)(pilot)
        app.open_run(fleet["done"].folder.path)
        await wait_until(pilot, lambda: run_is_opened(app))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


def test_a_quiet_run_is_stale(app: QadApp, fleet: dict[str, FakeRun], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(120, 40), run_before=pressing("j", until=list_is_shown))


def test_the_keys(app: QadApp, fleet: dict[str, FakeRun], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(80, 24), run_before=pressing("question_mark", until=lambda app: True))


def test_a_vanished_run(app: QadApp, fleet: dict[str, FakeRun], snap_compare: Compare) -> None:
    path = fleet["running"].folder.path

    async def run_before(pilot: Pilot[None]) -> None:
        await pressing("enter", until=run_is_opened)(pilot)
        shutil.rmtree(path)
        await wait_until(pilot, lambda: path not in app.fleet.rows)
        await settle(pilot)

    assert snap_compare(app, terminal_size=(80, 24), run_before=run_before)


@of_each_size
def test_no_runs(app: QadApp, size: tuple[int, int], snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: any(words.display for words in app.screen.query("#empty")))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)
