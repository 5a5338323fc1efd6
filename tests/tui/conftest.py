"""Fixtures of the screen tests: a fleet in a folder of its own, an app on it with a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.pilot import Pilot

from qad_tui.app import QadApp
from tests.tui.fleet import FakeRun, make_fleet

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 20.0


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
