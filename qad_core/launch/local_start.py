"""The start of a run on this machine that lives, and the signal that ends it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence

from qad_core.run.jobs import Job
from qad_core.run.state import process_lives


def find_living(jobs: Sequence[Job]) -> Job | None:
    """The newest start whose launcher runs on this machine, without SLURM; None where there is none."""
    for job in reversed(jobs):
        if job.kind == "local" and job.ended is None and job.host == socket.gethostname() and job.started is not None:
            return job if process_lives(job.pid, before=job.started) else None
    return None


def end_start(job: Job, *, now: bool) -> bool:
    """Have the launcher save and stop, as Ctrl-C does; with `now` end it without a save. False if it has ended."""
    try:
        # The ranks end with their launcher, so that the kill leaves none behind.
        os.kill(job.pid, signal.SIGKILL if now else signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True
