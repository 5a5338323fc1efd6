"""How many links a chain needs, and when it stops: pure decisions from numbers that are there already.

A link is one SLURM job of a run. The next one goes on from its checkpoint, after success of a part, a
walltime, a preemption or a lost node. It has no business after the end, after a mistake that only the user
can mend, or without progress: at once after a bug or a whole walltime, and after two starts in a row that
something outside has ended. A crash loop must not burn the allocation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qad_core.errors import ExitCode
from qad_core.run.jobs import Job

SPARE_LINKS = 1
"""Links more than the estimate asks for, where the run is to go on until it is done."""
ASSUMED_START_SECONDS = 300.0
ASSUMED_START_SHARE = 0.05
"""From a job's start to its first step, where no start of this run has been timed: so many seconds, and at most
this share of the walltime."""
MOST_LOST = 2
"""Starts in a row that may be lost, by a node, a preemption or another failure outside, without a checkpoint gained."""


@dataclass(frozen=True)
class ChainEstimate:
    """What a chain has to do, in the numbers that are shown before it is submitted."""

    iterations_left: int
    seconds_per_iteration: float
    """Measured or told."""
    start_seconds: float
    """From a job's start to its first step."""
    link_seconds: float
    """Of a walltime: time to train in, without the start and the time kept to save in."""

    @property
    def links(self) -> int:
        """Links needed for the iterations left; at least one."""
        return max(1, math.ceil(self.iterations_left * self.seconds_per_iteration / self.link_seconds))

    @property
    def hours(self) -> float:
        """Hours of training left."""
        return self.iterations_left * self.seconds_per_iteration / 3600


@dataclass(frozen=True)
class Verdict:
    """Whether the chain goes on, and why not."""

    goes_on: bool
    reason: str = ""
    exit_code: int = ExitCode.DONE
    """Exit code of a link that finds the chain stopped."""


GOES_ON = Verdict(True)


def estimate_chain(
    iterations_left: int,
    seconds_per_iteration: float,
    *,
    time_limit_seconds: float,
    stop_seconds_before_limit: float,
    start_seconds: float | None = None,
) -> ChainEstimate | None:
    """The estimate, or None when a link of this walltime has no time to train in."""
    assumed = min(ASSUMED_START_SECONDS, ASSUMED_START_SHARE * time_limit_seconds)
    start = assumed if start_seconds is None else start_seconds
    usable = time_limit_seconds - stop_seconds_before_limit - start
    if usable <= 0:
        return None
    return ChainEstimate(iterations_left, seconds_per_iteration, start, usable)


def judge_end(exit_code: int, *, before: int | None, after: int | None, reason: str, stopped_by: str = "") -> Verdict:
    """Whether the next link may follow one that has ended with an exit code.

    `before` and `after` are the steps of the newest checkpoint at its start and end; `reason` is why the
    trainer stopped early, as status.json has it, and `stopped_by` what its launcher was told to stop by.
    """
    if exit_code == ExitCode.DONE:
        return Verdict(False, "the run is done", ExitCode.DONE)
    if exit_code == ExitCode.USER_ERROR:
        return Verdict(False, "the input is wrong, and would be so again", exit_code)
    if exit_code == ExitCode.STOPPED_EARLY and reason.startswith("exit_iteration"):
        return Verdict(False, f"stopped at {reason}, as asked", exit_code)
    if _gained(before, after):
        return GOES_ON
    taken_away = exit_code == ExitCode.STOPPED_EARLY and stopped_by == "signal"
    if taken_away or exit_code == ExitCode.OUTSIDE_FAILED:
        return GOES_ON  # other nodes may do better; `judge_start` counts how often
    return Verdict(False, f"no progress: {_standing(after)} before this link and after it", exit_code)


def count_lost_starts(known: Job, restarts: int, now_at: int | None) -> int:
    """How many starts of a job in a row, before this one, gained no checkpoint.

    `known` is its record up to now, `restarts` how often SLURM has started it again, `now_at` the step of the newest
    checkpoint. A start that was lost before it could write anything down gained none either.
    """
    if known.started is None:
        return restarts
    if restarts <= known.restarts:
        return known.starts_without_gain
    unrecorded = restarts - known.restarts - 1
    return unrecorded if _gained(known.checkpoint_at_start, now_at) else known.starts_without_gain + 1 + unrecorded


def judge_start(job: Job, earlier: Sequence[Job], *, now_at: int | None, done: bool, stopped: str = "") -> Verdict:
    """Whether a link that has just been started may train.

    `job` is the link with what is known of its former starts, `earlier` the links of the same chain before it,
    `now_at` the step of the newest checkpoint, and `stopped` why the chain was stopped before.
    """
    if done:
        return Verdict(False, "the run is done", ExitCode.DONE)
    if stopped:
        codes = [link.exit_code for link in (*earlier, job) if link.exit_code]
        return Verdict(False, stopped, codes[-1] if codes else ExitCode.OUTSIDE_FAILED)
    started = [link for link in earlier if link.started is not None]
    if job.starts_without_gain >= MOST_LOST:
        why = (
            f"no progress: started {job.starts_without_gain + 1} times in a row, and {_standing(now_at)} all the while"
        )
        return Verdict(False, why, ExitCode.OUTSIDE_FAILED)
    lost = 0
    for link in reversed(started):
        if _gained(link.checkpoint_before, now_at):
            break
        if link.stopped_by == "walltime":
            why = f"no progress: link {link.link} ran into its walltime, and {_standing(now_at)} as before"
            return Verdict(False, why, ExitCode.OUTSIDE_FAILED)
        lost += 1
    if lost >= MOST_LOST:
        why = f"no progress: {lost} links in a row ended, and {_standing(now_at)} as before them"
        return Verdict(False, why, ExitCode.OUTSIDE_FAILED)
    return GOES_ON


def _gained(before: int | None, after: int | None) -> bool:
    """Whether there is a newer checkpoint; the first one counts, at whatever step."""
    return after is not None and (before is None or after > before)


def _standing(step: int | None) -> str:
    return "no checkpoint was there" if step is None else f"the newest checkpoint was of step {step}"
