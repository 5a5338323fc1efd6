"""Pictures of Curves, Config and Compare when what they show is old: SLURM is silent, or the run has gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from textual.pilot import Pilot

from qad_tui.app import QadApp
from qad_tui.panes.config import ConfigPane
from qad_tui.panes.curve_charts import BigChart, CurveCharts
from tests.tui.conftest import NOW, Clock, settle, wait_until
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun, write_config
from tests.tui.queue_fleet import make_chain, quiet_app, show_cluster
from tests.tui.test_promises_snapshots import DOWN, compare, open_tab
from tests.tui.test_snapshots_runs import Compare, of_each_size

Size = tuple[int, int]


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin")


@pytest.fixture
def app(root: Path, slurm: FakeSlurm, clock: Clock) -> QadApp:
    return quiet_app(root, slurm.client(), clock)


@pytest.fixture
def chain(root: Path, slurm: FakeSlurm, long_ago: None) -> Path:
    """A run that SLURM has links of."""
    show_cluster(slurm, NOW)
    return make_chain(root, NOW)


async def slurm_falls_silent(pilot: Pilot[None], app: QadApp, slurm: FakeSlurm, clock: Clock) -> None:
    slurm.fail("squeue", DOWN)
    app.note_slurm_action()
    clock.unix_time += 20
    await wait_until(pilot, lambda: bool(app.slurm.problem))
    await settle(pilot)


async def curves_are_drawn(pilot: Pilot[None]) -> None:
    pane = pilot.app.screen.query_one(CurveCharts)
    await wait_until(pilot, lambda: pane.curves is not None and bool(pane.curves.charts))
    await settle(pilot)


async def config_is_read(pilot: Pilot[None]) -> None:
    pane = pilot.app.screen.query_one(ConfigPane)
    await wait_until(pilot, lambda: bool(pane.lines))
    await settle(pilot)


async def run_vanishes(pilot: Pilot[None], app: QadApp, path: Path) -> None:
    shutil.rmtree(path)
    await wait_until(pilot, lambda: path not in app.fleet.rows)
    await settle(pilot)


# Curves


@of_each_size
def test_curves_while_slurm_is_silent(
    app: QadApp, chain: Path, slurm: FakeSlurm, clock: Clock, size: Size, snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.slurm.answered_at is not None)
        await open_tab(pilot, chain, "curves")
        await curves_are_drawn(pilot)
        await slurm_falls_silent(pilot, app, slurm, clock)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_curves_of_a_run_that_has_vanished(
    app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare
) -> None:
    path = fleet["stopped"].folder.path

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, path, "curves")
        await curves_are_drawn(pilot)
        await run_vanishes(pilot, app, path)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Config


@of_each_size
def test_a_config_while_slurm_is_silent(
    app: QadApp, chain: Path, slurm: FakeSlurm, clock: Clock, configs: None, size: Size, snap_compare: Compare
) -> None:
    write_config(FakeRun.again(chain, 4000, pid=1), "train.learning_rate=2e-5")

    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.slurm.answered_at is not None)
        await open_tab(pilot, chain, "config")
        await config_is_read(pilot)
        await slurm_falls_silent(pilot, app, slurm, clock)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_the_config_of_a_run_that_has_vanished(
    app: QadApp, fleet: dict[str, FakeRun], configs: None, size: Size, snap_compare: Compare
) -> None:
    path = fleet["stopped"].folder.path
    write_config(fleet["stopped"], "train.learning_rate=2e-5")

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, path, "config")
        await config_is_read(pilot)
        shutil.rmtree(path)
        pane = app.screen.query_one(ConfigPane)
        await wait_until(pilot, lambda: pane.is_gone and path not in app.fleet.rows)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Compare


@of_each_size
def test_a_comparison_while_slurm_is_silent(
    app: QadApp,
    chain: Path,
    fleet: dict[str, FakeRun],
    slurm: FakeSlurm,
    clock: Clock,
    size: Size,
    snap_compare: Compare,
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.slurm.answered_at is not None)
        await compare(pilot, chain, fleet["done"].folder.path)
        await wait_until(pilot, lambda: app.screen.query_one(BigChart).chart is not None)
        await slurm_falls_silent(pilot, app, slurm, clock)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_comparison_with_a_run_that_has_vanished(
    app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare
) -> None:
    done, gone = fleet["done"].folder.path, fleet["stopped"].folder.path

    async def run_before(pilot: Pilot[None]) -> None:
        await compare(pilot, done, gone)
        await wait_until(pilot, lambda: app.screen.query_one(BigChart).chart is not None)
        await settle(pilot)
        await run_vanishes(pilot, app, gone)

    assert snap_compare(app, terminal_size=size, run_before=run_before)
