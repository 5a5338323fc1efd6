"""Pictures of the queue and of a chain; `pytest --snapshot-update` accepts new ones after a look at them."""

from __future__ import annotations

import pwd
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from qad_core.slurm.client import SlurmClient
from qad_tui.app import QadApp
from qad_tui.panes.chain import ChainPane
from qad_tui.screens.confirm import ConfirmScreen
from qad_tui.screens.queue import QueueScreen
from qad_tui.widgets.queue_table import QueueTable
from tests.tui.conftest import Clock, settle, wait_until, words
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import make_fleet, write_config
from tests.tui.queue_fleet import make_chain, quiet_app, show_cluster

NOW = 1_790_000_000.0
SIZES = [(80, 24), (120, 40), (200, 50)]
of_each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


class Compare(Protocol):
    """The fixture of pytest-textual-snapshot."""

    def __call__(
        self, app: App[None], *, terminal_size: tuple[int, int], run_before: Callable[[Pilot[None]], Awaitable[None]]
    ) -> bool: ...


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One user's name and one time zone on every machine."""
    quinn = pwd.struct_passwd(("quinn", "x", 1000, 1000, "", "/home/quinn", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: quinn)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin")


@pytest.fixture
def app(root: Path, slurm: FakeSlurm, clock: Clock) -> QadApp:
    """SLURM is asked when a test moves the clock, and not again by itself."""
    return quiet_app(root, slurm.client(), clock)


@pytest.fixture
def cluster(slurm: FakeSlurm, root: Path) -> Path:
    """A cluster with a chain of ours on it; the run's folder."""
    show_cluster(slurm, NOW)
    return make_chain(root, NOW)


def queue_then(
    *keys: str,
    clock: Clock,
    after: Callable[[QadApp], None] | None = None,
    until: str = "",
    screen: type[Screen[Any]] = QueueScreen,
) -> Before:
    """Open the queue a minute after it was asked for, press keys, and wait until the words say `until`."""

    async def run_before(pilot: Pilot[None]) -> None:
        app = qad(pilot)
        await wait_until(pilot, lambda: app.fleet.polled_at is not None)
        if app.fleet.rows:
            await wait_until(pilot, lambda: app.slurm.answered_at is not None)
        clock.unix_time = NOW + 5
        app.action_go("queue")
        await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen) and app.slurm.partitions_at is not None)
        table = app.screen.query_one(QueueTable)
        await wait_until(pilot, lambda: not table.display or app.focused is table)
        clock.unix_time = NOW + 60
        await settle(pilot)  # a question over the screen keeps the ages below it as they are
        await pilot.press(*keys)
        if after is not None:
            after(app)
        await wait_until(pilot, lambda: isinstance(app.screen, screen) and app.screen.is_mounted)
        await wait_until(pilot, lambda: until in words(app, "#queue-words") if until else True)
        await settle(pilot)

    return run_before


def chain_then(path: Path, *keys: str) -> Before:
    """Open the chain of a run, press keys."""

    async def run_before(pilot: Pilot[None]) -> None:
        app = qad(pilot)
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        if app.slurm_wish.links:
            await wait_until(pilot, lambda: app.slurm.answered_at is not None)
        app.open_run(path, tab="chain")
        await wait_until(pilot, lambda: bool(app.screen.query(ChainPane)))
        pane = app.screen.query_one(ChainPane)
        await wait_until(pilot, lambda: pane.facts.newest_step is not None or not app.slurm_wish.links)
        await wait_until(pilot, lambda: pane.has_focus_within)
        await settle(pilot)
        await pilot.press(*keys)
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await settle(pilot)

    return run_before


def qad(pilot: Pilot[None]) -> QadApp:
    assert isinstance(pilot.app, QadApp)
    return pilot.app


Before = Callable[[Pilot[None]], Awaitable[None]]


@of_each_size
def test_my_jobs(app: QadApp, cluster: Path, clock: Clock, size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=queue_then("j", "space", clock=clock))


@of_each_size
def test_everyone_s_jobs(
    app: QadApp, cluster: Path, clock: Clock, size: tuple[int, int], snap_compare: Compare
) -> None:
    assert snap_compare(app, terminal_size=size, run_before=queue_then("a", "s", clock=clock))


@of_each_size
def test_a_question(app: QadApp, cluster: Path, clock: Clock, size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=queue_then("x", clock=clock, screen=ConfirmScreen))


@of_each_size
def test_a_stale_queue(
    app: QadApp, cluster: Path, clock: Clock, slurm: FakeSlurm, size: tuple[int, int], snap_compare: Compare
) -> None:
    def go_down(app: QadApp) -> None:
        slurm.fail("squeue", DOWN)
        app.note_slurm_action()
        clock.unix_time += 6

    before = queue_then(clock=clock, after=go_down, until="stale")
    assert snap_compare(app, terminal_size=size, run_before=before)


@of_each_size
def test_an_empty_queue(
    app: QadApp, slurm: FakeSlurm, clock: Clock, size: tuple[int, int], snap_compare: Compare
) -> None:
    slurm.show_partitions([{}])
    assert snap_compare(app, terminal_size=size, run_before=queue_then(clock=clock))


@of_each_size
def test_a_silent_controller(
    app: QadApp, slurm: FakeSlurm, clock: Clock, size: tuple[int, int], snap_compare: Compare
) -> None:
    slurm.fail("squeue", DOWN)

    async def run_before(pilot: Pilot[None]) -> None:
        qad(pilot).action_go("queue")
        await wait_until(pilot, lambda: bool(qad(pilot).slurm.problem))
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_no_slurm(root: Path, tmp_path: Path, clock: Clock, size: tuple[int, int], snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        qad(pilot).action_go("queue")
        await wait_until(pilot, lambda: qad(pilot).slurm.missing)
        await settle(pilot)

    app = quiet_app(root, SlurmClient(environ={"PATH": str(tmp_path)}), clock)
    assert snap_compare(app, terminal_size=size, run_before=run_before)


@of_each_size
def test_a_chain(app: QadApp, cluster: Path, size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=chain_then(cluster))


@of_each_size
def test_a_link_that_can_never_start(app: QadApp, cluster: Path, size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=chain_then(cluster, "G"))


@of_each_size
def test_adding_links(app: QadApp, cluster: Path, size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=chain_then(cluster, "a"))


@of_each_size
def test_a_run_without_a_chain(app: QadApp, root: Path, size: tuple[int, int], snap_compare: Compare) -> None:
    fleet = make_fleet(root, now=NOW)
    assert snap_compare(app, terminal_size=size, run_before=chain_then(fleet["done"].folder.path))


@of_each_size
def test_the_chain_of_a_local_run(app: QadApp, root: Path, size: tuple[int, int], snap_compare: Compare) -> None:
    run = make_fleet(root, now=NOW)["done"]
    write_config(run, "cluster.kind=local")
    assert snap_compare(app, terminal_size=size, run_before=chain_then(run.folder.path))


@of_each_size
def test_a_chain_where_there_is_no_slurm(
    root: Path, tmp_path: Path, clock: Clock, size: tuple[int, int], snap_compare: Compare
) -> None:
    path = make_chain(root, NOW)

    async def run_before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: qad(pilot).slurm.missing)
        qad(pilot).open_run(path, tab="chain")
        await settle(pilot)

    app = quiet_app(root, SlurmClient(environ={"PATH": str(tmp_path)}), clock)
    assert snap_compare(app, terminal_size=size, run_before=run_before)
