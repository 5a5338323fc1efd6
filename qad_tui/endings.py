"""How jobs ended, as SLURM's accounts have it: each is asked about until they know, and then no more.

Owns what the accounts have told, and the pace of sacct. It runs in the thread of `slurm_watch.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from qad_core.slurm.answers import MOST_IDS
from qad_core.slurm.errors import AccountingUnavailable, SlurmMissing
from qad_core.slurm.jobs import is_finished

if TYPE_CHECKING:
    from qad_core.slurm.client import SlurmClient
    from qad_core.slurm.records import AccountingEntry

MOST_TRIES = 6
"""So often the accounts may answer without knowing a job's end, which they learn some seconds late or never."""
FIRST_WAIT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 600.0
"""After accounts that did not answer, doubled each time."""


class Endings:
    """What sacct has told."""

    def __init__(self, client: SlurmClient, clock: Callable[[], float]) -> None:
        self.silences: tuple[str, ...] = ()
        """Why the accounts gave no answer last; empty when they did, or keep no accounts."""
        self._client = client
        self._clock = clock
        self._known: dict[str, AccountingEntry] = {}
        self._tries: dict[str, int] = {}
        self._disabled = False
        self._failures = 0
        self._next_at = 0.0

    @property
    def known(self) -> Mapping[str, AccountingEntry]:
        """By job id, what was told so far."""
        return MappingProxyType(dict(self._known))

    def are_wanted(self, ended: Sequence[str]) -> bool:
        """Whether the end of some of these jobs is still to be asked for."""
        return not self._disabled and any(self._is_open(job_id) for job_id in ended)

    def forget(self, live: Iterable[str]) -> None:
        """These jobs wait or run: an end that was known of them was that of an earlier start."""
        for job_id in live:
            self._known.pop(job_id, None)
            self._tries.pop(job_id, None)

    def ask(self, ended: Sequence[str]) -> None:
        """One sacct about those of these jobs whose end is not known, where it is time for one."""
        wanted = [job_id for job_id in ended if self._is_open(job_id)][:MOST_IDS]
        if self._disabled or not wanted or self._clock() < self._next_at:
            return
        try:
            told = self._client.accounting(wanted)
        except (AccountingUnavailable, SlurmMissing, OSError) as error:
            self._note_silence(error)
            return
        self._failures, self._next_at, self.silences = 0, 0.0, ()
        for job_id in wanted:
            self._tries[job_id] = self._tries.get(job_id, 0) + 1
        self._known |= {entry.job_id: entry for entry in told}

    def _is_open(self, job_id: str) -> bool:
        known = self._known.get(job_id)
        return (known is None or not is_finished(known.state)) and self._tries.get(job_id, 0) < MOST_TRIES

    def _note_silence(self, error: AccountingUnavailable | SlurmMissing | OSError) -> None:
        self._disabled = isinstance(error, AccountingUnavailable) and error.disabled
        self._failures += 1
        wait = min(FIRST_WAIT_SECONDS * 2.0 ** (self._failures - 1), LONGEST_WAIT_SECONDS)
        self._next_at = self._clock() + wait
        self.silences = (str(error).partition("\n")[0],)
