"""`qad_core cancel`: end a run's link so that it saves first, or all that is left of its chain; or a start here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qad_core.commands.output import console, error_console, print_json
from qad_core.commands.runs import find_run
from qad_core.errors import ExitCode, RunError
from qad_core.launch.live_links import LiveLink, live_links, settle_lost_answers
from qad_core.launch.local_start import end_start, find_living
from qad_core.launch.lock import locked_submission
from qad_core.launch.patience import PATIENCE_SECONDS, PatientSlurm
from qad_core.launch.run_local import disk_errors
from qad_core.run.address import address
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job, read_jobs
from qad_core.run.show import count_of
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.jobs import is_running

Way = Literal["stop", "end", "ending", "suspended"]
"""Tell it to save and stop; end it at once; nothing, for it is ending; nothing, for it cannot save now."""
_STARTING = frozenset({"CONFIGURING"})
_ENDING = frozenset({"COMPLETING", "STAGE_OUT"})
_STANDING_STILL = frozenset({"SUSPENDED", "STOPPED"})


@dataclass(frozen=True)
class CancelOptions:
    """What was asked for on the command line."""

    chain: bool = False
    """All links that are left, and not only the first of them."""
    now: bool = False
    """Nothing is saved."""
    patience_seconds: float = PATIENCE_SECONDS
    """How long to wait for a controller that does not answer."""
    as_json: bool = False


def cancel(run: str, roots: Sequence[Path], options: CancelOptions) -> ExitCode:
    """End the running link, or the first that waits; with `chain` all of them. With `now` nothing is saved.

    A running link is told to save and stop, as before its walltime; the next link of the chain, when there
    is one and `chain` is not given, goes on from there. A run that was started on this machine without SLURM is told
    the same. Raises RunError when nothing waits or runs, when the run is being submitted, and when all that is left is
    suspended; SlurmUnavailable after the patience.
    """
    folder = find_run(run, roots).folder
    if (start := find_living(read_jobs(folder.jobs))) is not None:
        return _end_here(folder, start, options)
    slurm = PatientSlurm(SlurmClient(), _say, options.patience_seconds)
    with locked_submission(folder), disk_errors(folder):
        settle_lost_answers(slurm, folder)
        live = live_links(slurm, folder)
        if not live:
            raise RunError(f"The run {folder.name} has no job that waits or runs.", "There is nothing to cancel.")
        chosen = live if options.chain else live[:1]
        ways: dict[str, Way] = {link.job_id: choose_way(link.state, now=options.now) for link in chosen}
        _act(slurm, ways)
        _note(folder, [link.job for link in chosen if ways[link.job_id] in ("stop", "end")])
    _report(folder, chosen, ways, left=len(live) - len(chosen), as_json=options.as_json)
    return ExitCode.USER_ERROR if set(ways.values()) == {"suspended"} else ExitCode.DONE


def choose_way(state: str, *, now: bool) -> Way:
    """What to do with a link in a state of SLURM's; pure."""
    if state in _ENDING:
        return "ending"
    if now or not is_running(state) or state in _STARTING:
        return "end"
    return "suspended" if state in _STANDING_STILL else "stop"


def _end_here(folder: RunFolder, start: Job, options: CancelOptions) -> ExitCode:
    if not end_start(start, now=options.now):
        raise RunError(f"The run {folder.name} has just ended.", "There is nothing to cancel.")
    _note(folder, [start])  # after it: a full disk keeps nobody from ending a run
    if options.as_json:
        print_json({"process": start.pid, "saves": not options.now})
    else:
        words = "is killed" if options.now else "was told to save and stop"
        console().print(f"process {start.pid} on this machine {words}", markup=False, soft_wrap=True)
    return ExitCode.DONE


def _act(slurm: PatientSlurm, ways: Mapping[str, Way]) -> None:
    ending = [job_id for job_id, way in ways.items() if way == "end"]
    if ending:  # the last first: none must start meanwhile
        slurm.ask(lambda client: client.cancel(ending[::-1]))
    for job_id in (job_id for job_id, way in ways.items() if way == "stop"):
        slurm.ask(lambda client, job_id=job_id: client.stop_gently(job_id))


def _note(folder: RunFolder, jobs: Sequence[Job]) -> None:
    """Write down that the user has ended these starts: to the trainer a signal is like any other."""
    for job in jobs:
        append_job(folder.jobs, Job(id=job.id, kind=job.kind, cancelled=time.time()))


def _say(text: str) -> None:
    error_console().print(text, markup=False)


def _report(folder: RunFolder, links: Sequence[LiveLink], ways: Mapping[str, Way], *, left: int, as_json: bool) -> None:
    if as_json:
        keys: dict[str, Way] = {"stopping": "stop", "cancelled": "end", "ending": "ending", "suspended": "suspended"}
        print_json({key: [job_id for job_id, its in ways.items() if its == way] for key, way in keys.items()})
        return
    out = console()
    for link in links:
        words = _words(ways[link.job_id], folder)
        out.print(f"job {link.job_id} (link {link.job.link}) {words}", markup=False, soft_wrap=True)
    if left:
        more = f"{count_of(left, 'link')} of the chain left, the next of which goes on"
        out.print(f"{more}; to end all: qad_core cancel {address(folder)} --chain", markup=False, soft_wrap=True)


def _words(way: Way, folder: RunFolder) -> str:
    if way == "suspended":
        return (
            "is suspended, and cannot save while it stands still: it is left alone. Cancel it when it goes on, or end "
            f"it without a save: qad_core cancel {address(folder)} --now"
        )
    return {"stop": "was told to save and stop", "end": "is cancelled", "ending": "is ending already"}[way]
