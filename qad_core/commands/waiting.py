"""Waiting until runs have ended, and the exit code that says how: a notification for scripts.

Owns what counts as an end, and how often is looked: at run folders each second, at SLURM at the pace of the screen.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import sleep, time

from qad_core.commands.outlook import view_runs
from qad_core.errors import ExitCode, RunError
from qad_core.launch.local_start import find_living
from qad_core.run.store import RunStore
from qad_core.slurm.answers import SlurmAnswers
from qad_core.slurm.outlook import OutlookState
from qad_core.slurm.polling import Need, Pace, Polled, next_question
from qad_core.slurm.site import read_site_floor
from qad_core.slurm.views import RunView

FOLDER_SECONDS = 1.0
MOST_UNKNOWN = 3
"""A job that has left the queue is looked for in the accounts so often: they learn of an end some seconds late."""
_LIVE: frozenset[OutlookState] = frozenset({"running", "starting", "silent", "queued"})
_NOTHING_TO_WAIT_FOR: frozenset[OutlookState] = frozenset({"never started", "foreign"})


def wait_for_end(paths: Sequence[Path]) -> tuple[list[RunView], SlurmAnswers]:
    """Look at the runs until all have ended, with all their links; how they are then.

    Raises RunError for a run that nobody has started.
    """
    store, pace = RunStore([]), Pace(floor_seconds=read_site_floor(os.environ).seconds)
    polled, ended_looks = Polled(), 0
    while True:
        began = time()
        runs = [store.summarize(path) for path in paths]
        views, answers = view_runs(runs, endings=False)
        ended_looks = 0 if any(map(is_under_way, views)) else ended_looks + 1
        if ended_looks:
            views, answers = view_runs(runs, endings=True)
            if _have_ended(views, answers, is_last_look=ended_looks >= MOST_UNKNOWN):
                return views, answers
        now = time()
        polled = Polled(now, now - began, polled.failures + 1 if answers.queue is None else 0)
        sleep(_seconds_to_next_look(views, pace, polled))


def is_under_way(view: RunView) -> bool:
    """Whether it runs or waits in a queue, or a start of it on this machine has not said anything yet."""
    return view.outlook.state in _LIVE or find_living(view.jobs) is not None


def exit_code_of(views: Sequence[RunView]) -> ExitCode:
    """How the runs ended: done, or the exit code of the first that is not."""
    return next((code for code in map(_exit_code, views) if code), ExitCode.DONE)


def _exit_code(view: RunView) -> ExitCode:
    status = view.run.status
    if view.outlook.state == "done":
        return ExitCode.DONE
    if view.outlook.state not in ("stopped", "failed") or status is None:
        return ExitCode.OUTSIDE_FAILED  # killed, or a job that can never start
    if status.exit_code and status.exit_code in list(ExitCode):
        return ExitCode(status.exit_code)
    return ExitCode.STOPPED_EARLY if view.outlook.state == "stopped" else ExitCode.BUG


def _have_ended(views: Sequence[RunView], answers: SlurmAnswers, *, is_last_look: bool) -> bool:
    for view in views:
        if view.outlook.state in _NOTHING_TO_WAIT_FOR and not is_under_way(view):
            raise RunError(f"The run {view.run.name} is not under way: {view.outlook.words}.", "Start it first.")
    if any(map(is_under_way, views)):
        return False
    is_unclear = any(view.outlook.state == "unknown" for view in views)
    return not is_unclear or (is_last_look and answers.queue is not None)


def _seconds_to_next_look(views: Sequence[RunView], pace: Pace, polled: Polled) -> float:
    if not any(view.links for view in views):
        return FOLDER_SECONDS
    next_at = next_question(pace, polled, Need(links=True, live=True))
    return max((next_at or 0.0) - time(), FOLDER_SECONDS)
