"""Fixtures of the screen tests: a fleet in a folder of its own, an app on it with a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import Static

from qad_tui.app import QadApp
from qad_tui.screens.base import QadScreen
from qad_tui.settings import HOME_VARIABLE
from qad_tui.widgets.run_table import RunTable
from qad_tui.widgets.status_card import StatusCard
from tests.tui.made_fleet import FakeRun, make_fleet

POLL_SECONDS = 0.1
SAME_LOOKS = 8
PATIENCE_SECONDS = 60.0
NARROW, WIDE = (80, 24), (120, 40)


@dataclass
class Clock:
    """A clock that moves only when it is told to."""

    unix_time: float

    def __call__(self) -> float:
        return self.unix_time


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `runs`, relative, so that no screen shows where the tests run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "qad-tui-home"))
    return Path("runs")


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def fleet(root: Path, clock: Clock) -> dict[str, FakeRun]:
    return make_fleet(root, now=clock())


@pytest.fixture
def app(root: Path, clock: Clock) -> QadApp:
    return QadApp([root], now=clock, poll_seconds=POLL_SECONDS)


async def wait_until(pilot: Pilot[None], reached: Callable[[], bool]) -> None:
    """Let the app run until `reached()`; fails after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "the screen never came to show it"
        await pilot.pause(0.02)


async def settle(pilot: Pilot[None]) -> None:
    """Wait until nothing is being read and the screen has stayed the same for a while, however slow the machine is."""
    seen = [""]
    if isinstance(pilot.app.screen, QadScreen) and pilot.app.screen.stands:
        pilot.app.screen.tick()  # a clock that a test has moved is else seen a second later only

    def is_steady() -> bool:
        if not all(worker.is_finished for worker in pilot.app.workers):
            seen.append("")
        seen.append(pilot.app.export_screenshot())
        return len(seen) > SAME_LOOKS and len(set(seen[-SAME_LOOKS:])) == 1

    await wait_until(pilot, is_steady)


def words(app: QadApp, widget: type[Static] | str) -> str:
    """What a Static on the screen says, or all of a kind."""
    found = app.screen.query(widget).results(Static) if isinstance(widget, str) else app.screen.query(widget)
    contents = [each.content for each in found]
    return "\n".join(content.plain if isinstance(content, Text) else str(content) for content in contents)


async def list_is_filled(app: QadApp, pilot: Pilot[None], rows: int = 8) -> RunTable:
    """Wait until the list of runs has so many rows, and return it."""
    table = app.screen.query_one(RunTable)
    await wait_until(pilot, lambda: table.row_count == rows)
    return table


async def card_says(app: QadApp, pilot: Pilot[None], sentence: str) -> None:
    """Wait until the status card says this."""
    await wait_until(pilot, lambda: sentence in words(app, StatusCard))
