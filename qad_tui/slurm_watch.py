"""When SLURM is asked, and what it said last; one squeue for everything on the screen.

Owns the questions and their pace (`qad_core/slurm/polling.py` has the rules), and keeps the last good answer. It
runs in a thread and knows nothing of Textual.

A job that is no more in the controller's memory cannot come back: after that only the accounts are asked about it,
until they tell its end.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qad_core.errors import OutsideError, QadError
from qad_core.slurm.answers import MOST_IDS, NOT_ASKED_YET, SlurmAnswers
from qad_core.slurm.errors import SlurmMissing
from qad_core.slurm.jobs import is_finished
from qad_core.slurm.polling import Need, Pace, Polled, next_question, soonest_question
from qad_core.slurm.queue_view import own_name
from qad_tui.endings import Endings

if TYPE_CHECKING:
    from qad_core.run.jobs import Job
    from qad_core.slurm.client import SlurmClient
    from qad_core.slurm.partitions import PartitionEntry
    from qad_core.slurm.records import QueueEntry

QUESTION_SECONDS = 15.0
"""A question is given up after this; a controller that is down is told after 10."""
PARTITION_SECONDS = 60.0
"""Nodes change more slowly than jobs: sinfo is asked no more often than this."""
Scope = Literal["nothing", "links", "everyone"]


@dataclass(frozen=True)
class Wish:
    """What the screens want to know of SLURM."""

    links: tuple[Job, ...] = ()
    """Links of all runs."""
    everyone: bool = False
    """Also the jobs of all users, and the partitions: the queue is on the screen."""
    away: bool = False
    """Nobody looks."""


@dataclass(frozen=True)
class SlurmSnapshot:
    """What is known of SLURM."""

    answers: SlurmAnswers = NOT_ASKED_YET
    """Of the runs' own links, as of the last good answer."""
    jobs: tuple[QueueEntry, ...] | None = None
    """Everyone's jobs, also those that have just ended; None before the first answer to that question."""
    jobs_at: float | None = None
    """Unix time of that answer."""
    partitions: tuple[PartitionEntry, ...] | None = None
    partitions_at: float | None = None
    """Unix time of sinfo's answer."""
    scope: Scope = "nothing"
    """What the last question was about."""
    answered_at: float | None = None
    """Unix time of squeue's last answer; None when there was none yet."""
    problem: str = ""
    """Why the last question got no answer; empty when it got one."""
    partition_problem: str = ""
    """The same of sinfo."""
    missing: bool = False
    """Whether there is no SLURM here; then nothing is asked any more, unless by a key."""


class SlurmWatch:
    """Asks SLURM no more often than it may; one thread at a time goes through `look`."""

    def __init__(
        self,
        client: SlurmClient,
        *,
        clock: Callable[[], float] = time.time,
        pace: Pace | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Ask through `client`; `clock` gives Unix seconds, `jitter` numbers from 0 to 1."""
        self.snapshot = SlurmSnapshot()
        self.pace = pace or Pace()
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._polled = Polled()
        self._acted_at: float | None = None
        self._queue: dict[str, QueueEntry] | None = None
        self._asked: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()
        self._endings = Endings(client, clock)
        self._me = own_name()

    def next_at(self, wish: Wish) -> float | None:
        """Unix time of the next question; None while there is none to ask."""
        if self.snapshot.missing:
            return None
        return next_question(self.pace, self._polled, self._need(wish))

    def is_due(self, wish: Wish) -> bool:
        """Whether it is time for a question."""
        next_at = self.next_at(wish)
        return next_at is not None and self._clock() >= next_at

    def may_ask(self) -> bool:
        """Whether a key may ask already: no sooner than the site lets anybody."""
        return self._clock() >= soonest_question(self.pace, self._polled)

    def note_action(self) -> None:
        """A job was submitted, cancelled or changed: see soon what came of it."""
        self._acted_at = self._clock()

    def look(self, wish: Wish) -> Iterator[SlurmSnapshot]:
        """Ask now; a snapshot as soon as squeue has answered or failed, and one when all is known."""
        job_ids = self._open_ids(wish)
        if wish.everyone or job_ids:
            yield self._ask_queue(wish, job_ids)
            if self.snapshot.problem:
                return
        else:
            self._note_end(time.monotonic(), failed=False)  # the accounts alone are asked, at the same pace
        if wish.everyone and self._clock() - (self.snapshot.partitions_at or 0.0) >= PARTITION_SECONDS:
            self._ask_partitions()
        self._ask_endings(wish)
        yield self.snapshot

    def _need(self, wish: Wish) -> Need:
        open_ids = self._open_ids(wish)
        return Need(
            links=bool(open_ids) or self._endings.are_wanted(self._ended_ids(wish)),
            live=self._is_live(open_ids),
            everyone=wish.everyone,
            opened=wish.everyone and self.snapshot.jobs is None,
            away=wish.away,
            acted_at=self._acted_at,
        )

    def _open_ids(self, wish: Wish) -> list[str]:
        """Links that may be in the controller's memory."""
        ids = (job.slurm_job_id for job in wish.links if job.slurm_job_id)
        return [job_id for job_id in dict.fromkeys(ids) if job_id not in self._gone]

    def _ended_ids(self, wish: Wish) -> list[str]:
        """Links that have left the queue as far as squeue's last answer goes."""
        queue = self._queue or {}
        ids = dict.fromkeys(job.slurm_job_id for job in wish.links if job.slurm_job_id in self._asked)
        return [job_id for job_id in ids if job_id not in queue or is_finished(queue[job_id].state)]

    def _is_live(self, open_ids: Sequence[str]) -> bool:
        queue = self._queue or {}
        ours = any(job_id in queue and not is_finished(queue[job_id].state) for job_id in open_ids)
        return ours or any(entry.user == self._me and not is_finished(entry.state) for entry in self._own_entries)

    @property
    def _own_entries(self) -> Sequence[QueueEntry]:
        return (self.snapshot.jobs or ()) if self.snapshot.scope == "everyone" else ()

    def _ask_queue(self, wish: Wish, job_ids: Sequence[str]) -> SlurmSnapshot:
        """One squeue: of everyone, or of the links, where these are not too many for an argument."""
        everyone = wish.everyone or len(job_ids) > MOST_IDS
        began = time.monotonic()
        try:
            entries = self._client.queue(None if everyone else job_ids, ended=everyone)
        except (QadError, OSError) as error:
            self._note_end(began, failed=True)
            return self._keep_silence(error, "everyone" if wish.everyone else "links")
        self._note_end(began, failed=False)
        self._queue = {entry.job_id: entry for entry in entries}
        self._asked |= set(job_ids)
        self._gone |= {job_id for job_id in job_ids if job_id not in self._queue}
        self._endings.forget(job_id for job_id, entry in self._queue.items() if not is_finished(entry.state))
        now = self._clock()
        seen = {"jobs": tuple(entries), "jobs_at": now} if everyone else {}
        self.snapshot = dataclasses.replace(
            self.snapshot,
            answers=self._answers(wish),
            scope="everyone" if everyone else "links",
            answered_at=now,
            problem="",
            missing=False,
            **seen,
        )
        return self.snapshot

    def _note_end(self, began: float, *, failed: bool) -> None:
        self._polled = Polled(
            ended_at=self._clock(),
            took_seconds=time.monotonic() - began,
            failures=self._polled.failures + 1 if failed else 0,
            jitter=self._jitter(),
        )

    def _keep_silence(self, error: QadError | OSError, scope: Scope) -> SlurmSnapshot:
        """The last good answer stays, with why there is no newer one."""
        problem = error.message if isinstance(error, QadError) else f"squeue cannot be run: {error}"
        answers = dataclasses.replace(self.snapshot.answers, silences=(problem,))
        if self._queue is None:
            answers = SlurmAnswers(None, None, (problem,))
        missing = isinstance(error, SlurmMissing)
        self.snapshot = dataclasses.replace(
            self.snapshot, answers=answers, problem=problem, missing=missing, scope=scope
        )
        return self.snapshot

    def _ask_partitions(self) -> None:
        try:
            partitions = tuple(self._client.partitions())
        except (OutsideError, SlurmMissing, OSError) as error:
            self.snapshot = dataclasses.replace(self.snapshot, partition_problem=str(error).partition("\n")[0])
            return
        self.snapshot = dataclasses.replace(
            self.snapshot, partitions=partitions, partitions_at=self._clock(), partition_problem=""
        )

    def _ask_endings(self, wish: Wish) -> None:
        self._endings.ask(self._ended_ids(wish))
        self.snapshot = dataclasses.replace(self.snapshot, answers=self._answers(wish))

    def _answers(self, wish: Wish) -> SlurmAnswers:
        ids = {job.slurm_job_id for job in wish.links}
        queue = {job_id: entry for job_id, entry in (self._queue or {}).items() if job_id in ids}
        return SlurmAnswers(queue, self._endings.known, self._endings.silences, self._asked)
