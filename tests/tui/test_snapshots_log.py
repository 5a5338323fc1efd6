"""Pictures of the log; `pytest --snapshot-update` accepts new ones after a look at them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input, Static

from qad_tui.app import QadApp
from qad_tui.screens.log_choice import LogChoiceScreen
from qad_tui.widgets.log_view import LogView
from tests.tui.conftest import Clock, settle, wait_until
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun, make_fleet
from tests.tui.queue_fleet import quiet_app
from tests.tui.test_log import make_starts

NOW = 1_790_000_000.0
SIZES = [(80, 24), (120, 40), (200, 50)]
of_each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
RunBefore = Callable[[Pilot[None]], Awaitable[None]]


class Compare(Protocol):
    """The fixture of pytest-textual-snapshot."""

    def __call__(self, app: App[None], *, terminal_size: tuple[int, int], run_before: RunBefore) -> bool: ...


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def app(root: Path, tmp_path: Path, clock: Clock) -> QadApp:
    return quiet_app(root, FakeSlurm(tmp_path / "bin").client(), clock)


@pytest.fixture
def failed(root: Path) -> FakeRun:
    """A run whose log ends in an error."""
    return make_fleet(root, now=NOW)["failed"]


def pressing(run: FakeRun, *keys: str, until: Callable[[QadApp], bool]) -> RunBefore:
    """Open the log of a run, press the keys, wait until the screen shows what is asked for and stays the same."""

    async def run_before(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, QadApp)
        await wait_until(pilot, lambda: run.folder.path in app.fleet.rows)
        app.open_run(run.folder.path, tab="log")
        await wait_until(pilot, lambda: any(view.has_focus and view.border_title for view in app.screen.query(LogView)))
        await pilot.pause(0.3)
        await pilot.press(*keys)
        await wait_until(pilot, lambda: until(app))
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await settle(pilot)

    return run_before


def shows(words: str) -> Callable[[QadApp], bool]:
    """Whether the log, its title or the line below it says something."""

    def is_shown(app: QadApp) -> bool:
        views = app.screen.query(LogView)
        rows = [view.render_line(y).text for view in views for y in range(view.size.height)]
        said = [str(line.content) for line in app.screen.query("#log-said").results(Static)]
        return words in "\n".join([*rows, *said, *(str(view.border_title) for view in views)])

    return is_shown


@of_each_size
def test_the_log(app: QadApp, failed: FakeRun, size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=pressing(failed, until=shows("INFO  failed")))


@of_each_size
def test_the_logs_to_choose_from(
    app: QadApp, failed: FakeRun, clock: Clock, size: tuple[int, int], snap_compare: Compare
) -> None:
    make_starts(failed, clock)
    chooses = pressing(failed, "t", until=lambda app: isinstance(app.screen, LogChoiceScreen))
    assert snap_compare(app, terminal_size=size, run_before=chooses)


def test_the_first_error(app: QadApp, failed: FakeRun, snap_compare: Compare) -> None:
    finds = pressing(failed, "e", until=shows("first error: line"))
    assert snap_compare(app, terminal_size=(120, 40), run_before=finds)


def test_a_search(app: QadApp, failed: FakeRun, snap_compare: Compare) -> None:
    finds = pressing(failed, "slash", *"STEP 14", "enter", until=shows('↑ "STEP 14": line'))
    assert snap_compare(app, terminal_size=(80, 24), run_before=finds)


def test_a_pattern_while_it_is_typed(app: QadApp, failed: FakeRun, snap_compare: Compare) -> None:
    types = pressing(failed, "slash", *r"nan\b", until=shows("escape closes"))
    assert snap_compare(app, terminal_size=(80, 24), run_before=types)


def test_long_lines_folded(app: QadApp, failed: FakeRun, snap_compare: Compare) -> None:
    failed.log("WARNING  a long line: " + "word " * 60 + "and the end of it")
    failed.log("日本語 " * 30)
    folds = pressing(failed, "w", until=shows("and the end of it"))
    assert snap_compare(app, terminal_size=(80, 24), run_before=folds)


def test_no_log_yet(app: QadApp, failed: FakeRun, snap_compare: Compare) -> None:
    shutil.rmtree(failed.folder.logs)
    assert snap_compare(app, terminal_size=(80, 24), run_before=pressing(failed, until=shows("No log yet.")))


def test_a_log_that_is_waited_for(app: QadApp, failed: FakeRun, clock: Clock, snap_compare: Compare) -> None:
    for path in make_starts(failed, clock).values():
        path.unlink()
    assert snap_compare(app, terminal_size=(80, 24), run_before=pressing(failed, until=shows("Waits for run_77.log")))


def test_a_log_that_cannot_be_read(app: QadApp, failed: FakeRun, snap_compare: Compare) -> None:
    failed.log_path.unlink()
    failed.log_path.mkdir()
    os.utime(failed.log_path, (NOW, NOW))
    assert snap_compare(app, terminal_size=(80, 24), run_before=pressing(failed, until=shows("cannot be read")))


def test_a_log_that_has_vanished(app: QadApp, failed: FakeRun, snap_compare: Compare) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await pressing(failed, until=shows("INFO  failed"))(pilot)
        shutil.rmtree(failed.folder.logs)
        app = pilot.app
        assert isinstance(app, QadApp)
        await wait_until(pilot, lambda: shows("FILE GONE")(app))
        await settle(pilot)

    assert snap_compare(app, terminal_size=(80, 24), run_before=run_before)
