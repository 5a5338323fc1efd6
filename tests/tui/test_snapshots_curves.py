"""Pictures of the curves at three terminal sizes; `pytest --snapshot-update` accepts new ones after a look at them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest
from textual.app import App
from textual.pilot import Pilot

from qad_core.run.jobs import Job, append_job
from qad_tui.app import QadApp
from qad_tui.panes.curve_charts import BigChart, CurveCharts
from tests.tui.conftest import POLL_SECONDS, Clock, settle, wait_until
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun

SIZES = [(80, 24), (120, 40), (200, 50)]
of_each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
Before = Callable[[Pilot[None]], Awaitable[None]]


class Compare(Protocol):
    """The fixture of pytest-textual-snapshot."""

    def __call__(self, app: App[None], *, terminal_size: tuple[int, int], run_before: Before) -> bool: ...


@pytest.fixture
def app(root: Path, tmp_path: Path, clock: Clock) -> QadApp:
    """On a cluster without jobs, whatever the machine has."""
    return QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=FakeSlurm(tmp_path / "bin").client())


def curves_then(path: Path, *keys: str) -> Before:
    """Open a run's curves, press the keys, each when the screen has come to rest."""

    async def run_before(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, QadApp)
        await wait_until(pilot, lambda: len(app.fleet.rows) > 0)
        if any(row.view.links for row in app.fleet.rows.values()):
            await wait_until(pilot, lambda: app.slurm.answered_at is not None)
        app.open_run(path, tab="curves")
        await wait_until(pilot, lambda: bool(app.screen.query(CurveCharts)))
        pane = app.screen.query_one(CurveCharts)
        await wait_until(pilot, lambda: pane.curves is not None and app.screen.focused is not None)
        for key in keys:
            await settle(pilot)
            await pilot.press(key)
        await settle(pilot)

    return run_before


@of_each_size
def test_all_metrics(app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare) -> None:
    path = fleet["running"].folder.path
    assert snap_compare(app, terminal_size=size, run_before=curves_then(path, "right"))


@of_each_size
def test_one_metric_over_two_links(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    run = fleet["stopped"]
    for number, step in ((7001, 0), (7002, 700)):
        job = Job(id=f"slurm-{number}", kind="slurm", slurm_job_id=str(number), started=run.started + 0.4 * step)
        append_job(run.folder.jobs, job)
    assert snap_compare(app, terminal_size=size, run_before=curves_then(run.folder.path, "enter"))


@of_each_size
def test_detail_smoothed_on_a_logarithmic_scale_with_values_read_out(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    keys = ("enter", "y", "s", "plus", "plus", "v", "left", "left", "left")
    assert snap_compare(app, terminal_size=size, run_before=curves_then(fleet["stopped"].folder.path, *keys))


@of_each_size
def test_a_run_that_diverged(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    assert snap_compare(app, terminal_size=size, run_before=curves_then(fleet["failed"].folder.path, "enter"))


@of_each_size
def test_no_metrics_yet(app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=curves_then(fleet["fresh"].folder.path))


@of_each_size
def test_metrics_that_cannot_be_read_any_more(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    run = fleet["done"]

    async def run_before(pilot: Pilot[None]) -> None:
        await curves_then(run.folder.path)(pilot)
        run.folder.metrics.unlink()
        run.folder.metrics.mkdir()
        pane = pilot.app.screen.query_one(CurveCharts)
        await wait_until(pilot, lambda: pane.curves is not None and bool(pane.curves.problem))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


def test_no_metric_of_a_name(app: QadApp, fleet: dict[str, FakeRun], snap_compare: Compare) -> None:
    run_before = curves_then(fleet["running"].folder.path, "slash", "q", "q", "enter")
    assert snap_compare(app, terminal_size=(80, 24), run_before=run_before)


def test_the_loss_beside_the_list(app: QadApp, fleet: dict[str, FakeRun], snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: any(chart.chart is not None for chart in pilot.app.screen.query(BigChart)))
        await settle(pilot)

    assert snap_compare(app, terminal_size=(120, 40), run_before=run_before)
