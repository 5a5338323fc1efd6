"""Pictures of New, Compare and System; `pytest --snapshot-update` accepts new ones after a look at them."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from qad_core.machine.disks import DiskState
from qad_core.machine.gpus import GpuAnswer, GpuState
from qad_core.machine.host import HostState
from qad_core.machine.look import MachineState
from qad_tui.app import QadApp
from qad_tui.panes.curve_charts import BigChart
from qad_tui.screens import system
from qad_tui.screens.compare import CompareScreen
from qad_tui.screens.new_run import NewRunScreen
from qad_tui.widgets.machine_view import MachineView
from tests.tui.conftest import settle, wait_until, words
from tests.tui.made_fleet import FakeRun
from tests.tui.test_snapshots_runs import Compare, of_each_size

GIB = 2**30
GPUS = tuple(
    GpuState(index, "NVIDIA H100 80GB HBM3", (60 + index) * GIB, 80 * GIB, 0.9 + index / 100, 60, 600.0, 700.0, (1,))
    for index in range(2)
)
HOST = HostState("gpu01", 64, tuple(number / 64 for number in range(64)), (12.1, 11.0, 9.5), 200 * GIB, 512 * GIB, 0, 0)


def machine(roots: object) -> MachineState:
    """A machine with a full disk and two GPUs."""
    disk = DiskState(Path("runs"), total=10**13, free=10**11, inodes=10**7, inodes_free=8 * 10**6)
    return MachineState(HOST, GpuAnswer(GPUS), (disk,))


async def open_comparison(pilot: Pilot[None], *runs: FakeRun) -> None:
    app = pilot.app
    assert isinstance(app, QadApp)
    await wait_until(pilot, lambda: bool(app.fleet.rows))
    await pilot.press("4")
    await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))
    app.selected = [run.folder.path for run in runs]
    await wait_until(pilot, lambda: bool(app.screen.query_one(BigChart).chart) or not runs)
    await settle(pilot)


@of_each_size
def test_three_runs_compared(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_comparison(pilot, fleet["running"], fleet["killed"], fleet["failed"])

    assert snap_compare(app, terminal_size=size, run_before=run_before)


def test_nothing_to_compare(app: QadApp, fleet: dict[str, FakeRun], snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_comparison(pilot)

    assert snap_compare(app, terminal_size=(80, 24), run_before=run_before)


@of_each_size
def test_this_machine(
    app: QadApp, size: tuple[int, int], snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "look_at_machine", machine)

    async def run_before(pilot: Pilot[None]) -> None:
        await pilot.press("5")
        await wait_until(pilot, lambda: bool(pilot.app.screen.query(MachineView)))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_form_without_a_model(app: QadApp, size: tuple[int, int], snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        screen = pilot.app.screen
        assert isinstance(screen, NewRunScreen)
        await wait_until(pilot, lambda: screen.is_checked)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_runs_compared_one_of_which_cannot_be_read(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_comparison(pilot, fleet["done"], fleet["killed"])
        app.selected = [*app.selected, Path("runs/lost-run")]
        fleet["killed"].folder.metrics.unlink()
        fleet["killed"].folder.metrics.mkdir()
        await wait_until(pilot, lambda: "metrics.jsonl cannot be read" in words(app, "#compare-problems"))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_all_metrics_of_three_runs(
    app: QadApp, fleet: dict[str, FakeRun], size: tuple[int, int], snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_comparison(pilot, fleet["running"], fleet["killed"], fleet["failed"])
        await pilot.press("m")
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)
