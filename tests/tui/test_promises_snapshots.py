"""Pictures of every screen's empty, stale and error state; `pytest --snapshot-update` accepts new ones after a look."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from qad_core.machine.disks import DiskState
from qad_core.machine.gpus import GpuAnswer
from qad_core.machine.look import MachineState
from qad_tui import fleet_model as fleet_module
from qad_tui.app import QadApp
from qad_tui.panes.chain import ChainPane
from qad_tui.panes.curve_charts import BigChart
from qad_tui.panes.form import FormPane
from qad_tui.screens import system
from qad_tui.screens.compare import CompareScreen
from qad_tui.screens.new_run import NewRunScreen
from qad_tui.widgets.machine_view import MachineView
from qad_tui.widgets.run_table import RunTable
from qad_tui.widgets.status_card import StatusCard
from tests.tui.conftest import NOW, Clock, settle, wait_until, words
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun, write_config
from tests.tui.queue_fleet import make_chain, quiet_app, show_cluster
from tests.tui.test_snapshots_places import HOST
from tests.tui.test_snapshots_runs import Compare, of_each_size

DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
Size = tuple[int, int]


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin")


@pytest.fixture
def app(root: Path, slurm: FakeSlurm, clock: Clock) -> QadApp:
    return quiet_app(root, slurm.client(), clock)


def qad(pilot: Pilot[None]) -> QadApp:
    assert isinstance(pilot.app, QadApp)
    return pilot.app


async def list_is_there(pilot: Pilot[None]) -> None:
    app = qad(pilot)
    await wait_until(pilot, lambda: any(table.rows for table in app.screen.query(RunTable)))
    await wait_until(pilot, lambda: app.size.width < 100 or app.screen.query(BigChart).first().chart is not None)
    await settle(pilot)


async def keys(pilot: Pilot[None], *pressed: str) -> None:
    """Press keys, each when the screen has come to rest; then again."""
    for key in pressed:
        await pilot.press(key)
        await settle(pilot)
    for field in pilot.app.screen.query(Input):
        field.cursor_blink = False
    await settle(pilot)


async def open_tab(pilot: Pilot[None], path: Path, tab: str) -> None:
    app = qad(pilot)
    await wait_until(pilot, lambda: path in app.fleet.rows)
    app.open_run(path, tab=tab)
    await settle(pilot)


def words_say(app: QadApp, selector: str, said: str) -> Callable[[], bool]:
    return lambda: bool(app.screen.query(selector)) and said in words(app, selector)


# Runs


@of_each_size
def test_a_list_that_is_stale(
    app: QadApp,
    fleet: dict[str, FakeRun],
    clock: Clock,
    size: Size,
    snap_compare: Compare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await list_is_there(pilot)
        monkeypatch.setattr(app, "_look_at_fleet", lambda: None)  # a file server that does not come back
        await settle(pilot)
        clock.unix_time += 34
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_runs_and_a_root_that_cannot_be_read(
    app: QadApp,
    fleet: dict[str, FakeRun],
    root: Path,
    size: Size,
    snap_compare: Compare,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan = fleet_module._folders_in  # pyright: ignore[reportPrivateUsage]

    def refuse(folder: Path) -> object:
        if folder == Path("shared"):
            raise PermissionError(13, os.strerror(13), "shared")
        return scan(folder)

    monkeypatch.setattr(fleet_module, "_folders_in", refuse)
    app.roots = (root, Path("shared"))
    app.settings.problems.append("home/settings.toml: poll_seconds: Input should be a valid number; the defaults hold")

    async def run_before(pilot: Pilot[None]) -> None:
        await list_is_there(pilot)
        await wait_until(pilot, words_say(app, "#problems", "shared"))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_no_run_matches_the_filter(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await list_is_there(pilot)
        await keys(pilot, "slash", *"qqq", "enter")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_the_columns_to_choose_from(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await list_is_there(pilot)
        await keys(pilot, "v")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Overview


@of_each_size
def test_the_overview_of_a_run_that_has_not_begun(
    app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["fresh"].folder.path, "overview")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_the_overview_of_a_run_that_is_stale(
    app: QadApp, fleet: dict[str, FakeRun], clock: Clock, size: Size, snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["running"].folder.path, "overview")
        clock.unix_time += 34
        await wait_until(pilot, lambda: "No new step" in words(qad(pilot), StatusCard))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_the_overview_of_a_run_that_has_vanished(
    app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare
) -> None:
    path = fleet["running"].folder.path

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, path, "overview")
        shutil.rmtree(path)
        await wait_until(pilot, lambda: path not in app.fleet.rows)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Config


@of_each_size
def test_the_config(app: QadApp, fleet: dict[str, FakeRun], configs: None, size: Size, snap_compare: Compare) -> None:
    write_config(fleet["running"], "train.learning_rate=2e-5")

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["running"].folder.path, "config")
        await keys(pilot, "j")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_two_configs_side_by_side(
    app: QadApp, fleet: dict[str, FakeRun], configs: None, size: Size, snap_compare: Compare
) -> None:
    write_config(fleet["running"], "train.learning_rate=2e-5")
    write_config(fleet["done"], "train.learning_rate=3e-5", "tag=other")

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["running"].folder.path, "config")
        await keys(pilot, "d", *"-qat", "enter")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_no_config(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    fleet["running"].folder.config.unlink()

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["running"].folder.path, "config")
        await wait_until(pilot, words_say(app, "#config-empty", "has no config.yaml"))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Chain


@of_each_size
def test_a_chain_while_slurm_is_silent(
    app: QadApp, root: Path, slurm: FakeSlurm, clock: Clock, long_ago: None, size: Size, snap_compare: Compare
) -> None:
    show_cluster(slurm, NOW)
    path = make_chain(root, NOW)

    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.slurm.answered_at is not None)
        await open_tab(pilot, path, "chain")
        pane = app.screen.query_one(ChainPane)
        await wait_until(pilot, lambda: pane.facts.newest_step is not None)
        slurm.fail("squeue", DOWN)
        app.note_slurm_action()
        clock.unix_time += 20
        await wait_until(pilot, lambda: bool(app.slurm.problem))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_chain_of_which_slurm_has_never_said_a_word(
    app: QadApp, root: Path, slurm: FakeSlurm, long_ago: None, size: Size, snap_compare: Compare
) -> None:
    slurm.fail("squeue", DOWN)
    path = make_chain(root, NOW)

    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: bool(app.slurm.problem))
        await open_tab(pilot, path, "chain")
        pane = app.screen.query_one(ChainPane)
        await wait_until(pilot, lambda: pane.facts.newest_step is not None)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# New


async def open_form(pilot: Pilot[None], *changes: str) -> NewRunScreen:
    app = qad(pilot)
    app.new_run("tiny", changes)
    await wait_until(pilot, lambda: isinstance(app.screen, NewRunScreen) and bool(app.screen.query(FormPane)))
    screen = app.screen
    assert isinstance(screen, NewRunScreen)
    await wait_until(pilot, lambda: screen.is_checked)
    await settle(pilot)
    return screen


@of_each_size
def test_a_form_that_is_ready(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_form(pilot, "train.learning_rate=2e-5")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_form_with_problems(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_form(pilot, "train.global_batch_size=7", "train.learning_rate=-1")
        await keys(pilot, "n")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_form_with_a_field_that_holds_no_number(
    app: QadApp, configs: None, size: Size, snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_form(pilot, "train.micro_batch_size=many")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_form_without_configs(
    app: QadApp, configs: None, size: Size, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QAD_CONFIGS", "nowhere")

    async def run_before(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await wait_until(pilot, words_say(app, "#new-problem", "nowhere"))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_the_question_before_a_start(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_form(pilot)
        await keys(pilot, "S")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_form_saved_as_an_experiment(app: QadApp, configs: None, size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_form(pilot, "train.learning_rate=2e-5")
        await keys(pilot, "w")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Compare


async def compare(pilot: Pilot[None], *runs: Path) -> None:
    app = qad(pilot)
    await wait_until(pilot, lambda: bool(app.fleet.rows))
    app.selected = list(runs)
    app.action_go("compare")
    await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen) and bool(app.screen.query(BigChart)))
    await settle(pilot)


@of_each_size
def test_nothing_to_compare_yet(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=compare)


@of_each_size
def test_a_comparison_of_runs_that_have_nothing_to_show(
    app: QadApp, fleet: dict[str, FakeRun], root: Path, size: Size, snap_compare: Compare
) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await compare(pilot, fleet["fresh"].folder.path, root / "Nemotron-9B-nvfp4-old-scripts")
        await wait_until(pilot, lambda: app.screen.query_one(BigChart).chart is not None)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# System


@of_each_size
def test_a_machine_without_gpus_and_with_a_disk_that_is_gone(
    app: QadApp, size: Size, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskState(Path("runs"), silence="/data/runs: Stale file handle")
    answer = GpuAnswer(silence="NVML does not answer: Driver/library version mismatch")
    monkeypatch.setattr(system, "look_at_machine", lambda folders: MachineState(HOST, answer, (disk,)))

    async def run_before(pilot: Pilot[None]) -> None:
        await pilot.press("5")
        await wait_until(pilot, lambda: bool(app.screen.query(MachineView)))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


# Log


@of_each_size
def test_no_log_of_a_run(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    shutil.rmtree(fleet["failed"].folder.logs)

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["failed"].folder.path, "log")

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_log_that_has_gone(app: QadApp, fleet: dict[str, FakeRun], size: Size, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["failed"].folder.path, "log")
        shutil.rmtree(fleet["failed"].folder.logs)
        await settle(pilot)
        await pilot.pause(1)
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_log_that_may_not_be_read(
    app: QadApp, fleet: dict[str, FakeRun], clock: Clock, size: Size, snap_compare: Compare
) -> None:
    path = fleet["failed"].log_path
    path.unlink()
    path.mkdir()
    os.utime(path, (clock(), clock()))

    async def run_before(pilot: Pilot[None]) -> None:
        await open_tab(pilot, fleet["failed"].folder.path, "log")

    assert snap_compare(app, terminal_size=size, run_before=run_before)
