"""Fixtures of the screen tests: a fleet in a folder of its own, an app on it with a clock that stands still."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import Input, Static
from textual.worker import Worker

from qad_core.config.devices import GIB, GPUS, Device
from qad_tui.app import QadApp
from qad_tui.screens.base import QadScreen
from qad_tui.settings import HOME_VARIABLE
from qad_tui.widgets.run_table import RunTable
from qad_tui.widgets.script_preview import ScriptPreview
from qad_tui.widgets.status_card import StatusCard
from tests.tui.made_fleet import FakeRun, make_fleet

POLL_SECONDS = 0.1
SAME_LOOKS = 8
READING_ROUNDS = 4
"""Workers that follow on each other."""
PATIENCE_SECONDS = 60.0
NARROW, WIDE = (80, 24), (120, 40)
NOW = 1_790_000_000.0
REPOSITORY = Path(__file__).parents[2]
STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
TOKEN = re.compile(r"\b[0-9a-f]{12}\b")
"""Of a chain, made anew for each."""


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


@pytest.fixture(autouse=True)
def known_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU for every cluster, so that no form shows the machine that the tests run on."""
    device = Device("gpu", "h200 (this machine)", int(GPUS["h200"].memory_gib * GIB), GPUS["h200"])
    monkeypatch.setattr("qad_core.config.forecast.find_device", lambda _cluster: device)


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def long_ago(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One moment and one time zone on every machine, for screens that show times of day."""
    clock.unix_time = NOW
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def configs(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The repository's configs in the working directory; scripts name no folder of this machine, and no hour."""
    shutil.copytree(REPOSITORY / "configs", "configs")
    for name in ("QAD_CONFIGS", "QAD_CHECKPOINT_ROOT", "DATACACHE_DIR", "LR", "GBS", "MBS"):
        monkeypatch.delenv(name, raising=False)
    show = ScriptPreview.show

    def show_elsewhere(preview: ScriptPreview, title: str, text: str) -> None:
        text = text.replace(sys.executable, "python").replace(str(tmp_path), "/home/you")
        show(preview, title, TOKEN.sub("c0ffee", STAMP.sub("2026-01-01_12-00-00", text)))

    monkeypatch.setattr(ScriptPreview, "show", show_elsewhere)


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
    """Wait until the screen has stayed the same while all that was being read came to its end, and what followed on it.

    What is read over and over, as the fleet is, need not pause for it: on a slow machine it never does.
    """
    if isinstance(pilot.app.screen, QadScreen) and pilot.app.screen.stands:
        pilot.app.screen.tick()  # a clock that a test has moved is else seen a second later only
    for field in pilot.app.screen.query(Input):
        field.cursor_blink = False  # it is else never the same for long
    look, looks, rounds = "", 0, 0
    reading: list[Worker[Any]] = []

    def is_steady() -> bool:
        nonlocal look, looks, rounds, reading
        before, look = look, pilot.app.export_screenshot()
        if look != before:
            looks, rounds, reading = 0, 0, unfinished(pilot)
        looks += 1
        if all(worker.is_finished for worker in reading):
            rounds, reading = rounds + 1, unfinished(pilot)
        return looks >= SAME_LOOKS and rounds >= READING_ROUNDS

    await wait_until(pilot, is_steady)


def unfinished(pilot: Pilot[None]) -> list[Worker[Any]]:
    """The workers that are at work."""
    return [worker for worker in pilot.app.workers if not worker.is_finished]


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
