"""Starts the demo: the recorded fleet in a temporary folder, its replay, its SLURM, and the application on them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qad_tui.demo.recording import read_recording
from qad_tui.demo.replay import Replay, ReplayedRun
from qad_tui.demo.slurm import DemoSlurm


@dataclass(frozen=True)
class DemoFleet:
    """What the application is started on."""

    root: Path
    client: DemoSlurm


@contextmanager
def demo_fleet(root: Path | None = None, *, grows: bool = True) -> Generator[DemoFleet]:
    """Write the fleet below a folder (a temporary one unless given), let it grow, and clean up at the end."""
    story, recorded = read_recording()
    now = time.time()
    with tempfile.TemporaryDirectory(prefix="qad-demo-") as folder:
        place = Path(folder) / "runs" if root is None else root
        runs = [ReplayedRun(place, plan, recorded[plan.folder], now) for plan in story.runs]
        for run in runs:
            run.write()
        replay = Replay(runs if grows else [])
        replay.start()
        try:
            yield DemoFleet(place, DemoSlurm(runs=tuple(runs)))
        finally:
            replay.stop()
