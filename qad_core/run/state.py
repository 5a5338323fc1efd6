"""The state of a run in plain words, from its last status and whether the process that wrote it lives."""

from __future__ import annotations

import socket
import time
from typing import Literal

import psutil

from qad_core.run.folder import RunFolder
from qad_core.run.redact import shorten
from qad_core.run.run_paths import is_ours
from qad_core.run.status import Status

State = Literal["running", "done", "stopped", "failed", "killed", "never started", "foreign"]
"""`stopped` can be resumed; `killed` wrote no end and its process is gone; `foreign` is a folder of older scripts."""

SILENCE_SECONDS = 300.0
"""A run on another machine counts as alive for so long after its last update."""
CLOCK_SLACK_SECONDS = 2.0
LONGEST_ERROR = 600
"""Characters of an error beside a state."""


def run_state(folder: RunFolder, status: Status | None, *, alive: bool) -> State:
    """The state of a run from its last status and whether its writer lives."""
    if status is None:
        return "never started" if is_ours(folder) else "foreign"
    if status.phase in ("done", "stopped", "failed"):
        return status.phase
    return "running" if alive else "killed"


def describe(state: State, status: Status | None, *, cancelled: bool = False) -> str:
    """The state and its circumstance in a few words; `cancelled` is that the user has ended the run's newest start."""
    if status is None:
        return "made by other scripts" if state == "foreign" else state
    at = f"at step {status.step} of {status.train_iterations}"
    if state == "running":
        return status.phase if status.phase == "training" else f"{status.phase}, {at}"
    by_user = ", cancelled by the user" if cancelled else ""
    if state == "stopped":
        by = by_user or (f" by {status.reason}" if status.reason else "")
        return f"stopped {at}{by}, can be resumed"
    if state == "failed":
        return f"failed {at}: {shorten(status.error, LONGEST_ERROR)}" if status.error else f"failed {at}"
    if state == "killed":
        return f"killed while {status.phase} {at}{by_user}, can be resumed"
    return state


def writer_lives(status: Status, *, now: float | None = None) -> bool:
    """Whether the process that wrote a status still lives, or wrote a short while ago on another machine."""
    if status.host != socket.gethostname():
        return (now if now is not None else time.time()) - status.updated < SILENCE_SECONDS
    return process_lives(status.pid, before=status.updated)


def process_lives(pid: int, *, before: float) -> bool:
    """Whether process `pid`, started before a Unix time, runs here; a later process of that number is another."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < before + CLOCK_SLACK_SECONDS
    except (psutil.NoSuchProcess, ValueError):
        return False
