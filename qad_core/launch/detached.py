"""A `qad_core train` that lives on when whoever started it has gone: a laptop's run, begun from a screen.

Owns the process and where its words go; what it does is the command's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.launch.ranks import output_tail
from qad_core.run.folder import RunFolder
from qad_core.run.status import read_status

LOGS_NAME = "logs_local"
"""Folder beside the runs with what such commands have printed, as `logs_slurm` has the jobs' words."""
_POLL_SECONDS = 0.1
_CLOCK_SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class Start:
    """A command that was started."""

    process: subprocess.Popen[bytes]
    log: Path
    """What it prints."""
    started: float
    """Unix time."""


def start_detached(arguments: Sequence[str], run_folder: Path) -> Start:
    """Start `qad_core ARGUMENTS` in a session of its own; raises OSError where its log cannot be written.

    The log is beside the run folders, because `--fresh` moves an older folder aside.
    """
    now = time.time()
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    log = run_folder.parent / LOGS_NAME / f"{run_folder.name}_{stamp}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "qad_core.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    # A process that has ended and that nobody waits for would still count as alive.
    threading.Thread(target=process.wait, daemon=True).start()
    return Start(process, log, now)


def wait_for_status(start: Start, run_folder: Path, seconds: float) -> str | None:
    """Wait until the run has said what it does; None then, else what the command printed before it ended.

    After `seconds` without either it counts as started.
    """
    folder, deadline = RunFolder(run_folder), time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = read_status(folder.status)
        if status is not None and status.updated >= start.started - _CLOCK_SLACK_SECONDS:
            return None
        code = start.process.poll()
        if code is not None:
            return None if code == 0 else output_tail(start.log) or f"it ended with exit code {code} and said nothing"
        time.sleep(_POLL_SECONDS)
    return None
