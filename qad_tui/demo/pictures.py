"""Pictures of the screens for the README, taken from the demo fleet: `python -m qad_tui.demo.pictures FOLDER`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from qad_tui.app import QadApp
from qad_tui.demo.start import DemoFleet, demo_fleet
from qad_tui.settings import SettingsStore

SIZE = (140, 38)
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Picture:
    """One screen, and the keys that lead to it."""

    name: str
    keys: tuple[str, ...]


PICTURES = (
    Picture("runs", ("j",)),
    Picture("curves", ("j", "c")),
    Picture("new-run", ("2", "enter", "down", "down", "down", "down", "enter")),
    Picture("queue", ("3",)),
    Picture("compare", ("space", "space", "d")),
)


async def take(picture: Picture, fleet: DemoFleet, folder: Path) -> Path:
    """Open the screen and write its picture as SVG."""
    app = QadApp([fleet.root], client=fleet.client, settings=SettingsStore(fleet.root.parent / "settings"))
    async with app.run_test(size=SIZE) as pilot:
        await _until(pilot, lambda: bool(app.fleet.rows) and app.slurm.answered_at is not None)
        for key in picture.keys:
            await pilot.press(key)
            await _settle(pilot)
        await _settle(pilot)
        path = folder / f"{picture.name}.svg"
        path.write_text(app.export_screenshot(title="qad-tui"), encoding="utf-8")
    return path


async def _until(pilot: Pilot[None], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not reached() and time.monotonic() < deadline:
        await pilot.pause(0.05)


async def _settle(pilot: Pilot[None]) -> None:
    """Until workers have said what they found."""
    for _ in range(12):
        await pilot.pause(0.1)


def main() -> None:
    """Take all pictures."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sys.executable = "/home/you/qad/.venv/bin/python"  # shown in commands; it starts nothing here
    for picture in PICTURES:
        with demo_fleet(grows=False) as fleet:
            os.chdir(fleet.root.parent)
            print(asyncio.run(take(picture, fleet, folder)))
            os.chdir(folder)


if __name__ == "__main__":
    main()
