"""Finds the jobs of a call of sbatch whose answer was lost, by the comment that the call gave them."""

from __future__ import annotations

from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import AccountingUnavailable
from qad_core.slurm.jobs import is_finished
from qad_core.slurm.values import leading_number

SEARCH_DAYS = 30
"""How far back a lost submission is looked for in the accounts."""


def find_submissions(client: SlurmClient, comment: str) -> list[str]:
    """Ids of the caller's jobs with this comment; none when squeue answered and there is none.

    Those that wait or run, by number; where there is none of them, those that have ended. Of jobs that have left
    the controller's memory the accounts of the last `SEARCH_DAYS` days tell, where they answer. A controller that
    had hung may show a job some seconds after it answers again. Raises SlurmUnavailable and SlurmMissing.
    """
    entries = [entry for entry in client.own_jobs() if entry.comment == comment]
    found = {entry.job_id for entry in entries if not is_finished(entry.state)} or {entry.job_id for entry in entries}
    return sorted(found or _find_in_accounts(client, comment), key=leading_number)


def _find_in_accounts(client: SlurmClient, comment: str) -> set[str]:
    try:
        submissions = client.own_submissions(SEARCH_DAYS)
    except AccountingUnavailable:
        return set()
    option = f"--comment={comment}"
    return {job_id for job_id, stored, line in submissions if stored == comment or option in line.split()}
