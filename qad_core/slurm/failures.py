"""What a failed command's text means: nobody answered, the accounts are down, or SLURM said no.

Pure. Exit codes tell little (scancel has 210 and 140, squeue 1 for all), so the text decides; texts of SLURM
22.05 to 25.11.
"""

from __future__ import annotations

import re

from qad_core.errors import QadError
from qad_core.run.redact import fit_to_show
from qad_core.slurm.errors import AccountingUnavailable, SlurmMissing, SlurmRefused, SlurmUnavailable
from qad_core.slurm.refusals import clean, find_refusal

_NO_CONFIGURATION = ("Could not establish a configuration source", "Unable to process configuration file")
_NO_ANSWER = (
    "Unable to contact slurm controller", "Socket timed out", "Connection refused", "Connection timed out",
    "No route to host", "Protocol authentication error", "Munge encode failed", "Munge decode failed",
    "Authentication failure", "Authentication credential expired", "Zero Bytes were transmitted",
    "Message receive failure", "Message send failure", "Communication connection failure",
    "Communication shutdown failure", "standby mode", "Rate limit exceeded", "temporarily unable to accept job",
    "Unable to create job record, try again", "I/O error writing script/environment",
    "Unexpected missing socket error", "Resource temporarily unavailable", 'Unable to resolve "',
    # what `scontrol hold` of 22.05 says when the controller is down
    "Unexpected message received",
)  # fmt: skip
MOST_LINES, LONGEST_LINE = 8, 400
"""More than a command of SLURM's ever has to say."""
UNKNOWN_JOB = "Invalid job id specified"
_WRONG_COLUMN = ("Invalid job format specification", "Invalid field requested")
_UNKNOWN_USER = "Invalid user"
_ACTION_HINTS = (
    ("Access/permission denied", "The job belongs to someone else."),
    ("Invalid user id", "The job belongs to someone else."),
    (UNKNOWN_JOB, "SLURM does not know the job: it ended a while ago, or never was."),
    ("Job has already finished", "The job has ended."),
    ("Job is pending execution", "The job waits already."),
)


def no_answer(said: str) -> SlurmUnavailable:
    """The controller does not answer; `said` is why."""
    return SlurmUnavailable(
        f"The SLURM controller does not answer: {said}.", "Try again later; `scontrol ping` shows when it is back."
    )


def submission_failure(stderr: str) -> QadError:
    """What to raise for an sbatch that failed."""
    trouble = _find_trouble(stderr)
    if trouble is not None:
        return trouble
    said = fit_to_show(clean(stderr), MOST_LINES * LONGEST_LINE) or "sbatch failed without a word"
    refusal = find_refusal(said)
    return SlurmRefused(
        f"SLURM refused the job: {said}.",
        refusal.hint if refusal else "It is a rule of this site, or new in SLURM; the site's staff can tell.",
        said=said,
        key=refusal.key if refusal else "",
    )


def action_failure(action: str, stderr: str) -> QadError:
    """What to raise when a job could not be changed; `action` is what was tried, such as `hold job 12`."""
    trouble = _find_trouble(stderr)
    if trouble is not None:
        return trouble
    said = "; ".join(line for line in _lines(stderr) if not line.startswith("slurm_suspend")) or "it failed"
    hint = next((hint for text, hint in _ACTION_HINTS if text in stderr), "")
    return SlurmRefused(f"SLURM refused to {action}: {said}.", hint, said=said)


def question_failure(stderr: str) -> QadError:
    """What to raise when squeue, sinfo or scontrol failed: whatever it said, it told nothing of jobs."""
    trouble = _find_trouble(stderr)
    if trouble is not None:
        return trouble
    said = "; ".join(_lines(stderr)) or "it failed without a word"
    if _UNKNOWN_USER in stderr:
        return SlurmRefused(f"SLURM refused to say: {said}.", "Name a user of this cluster.", said=said)
    return SlurmUnavailable(f"SLURM gave no answer: {said}.", "See what the same command says in a shell.")


def is_no_answer(stderr: str) -> bool:
    """Whether what squeue or sinfo printed is no answer, although its exit code is 0."""
    return _UNKNOWN_USER in stderr or any(text in stderr for text in _WRONG_COLUMN)


def accounting_failure(stderr: str) -> QadError:
    """What to raise when sacct failed."""
    if any(text in stderr for text in _NO_CONFIGURATION):
        return _missing_configuration()
    if "accounting storage is disabled" in stderr:
        return AccountingUnavailable(
            "This cluster keeps no accounts of jobs.",
            "How a job ended is known from its run folder and, for some minutes, from squeue.",
            disabled=True,
        )
    said = (_lines(stderr) or ["sacct failed without a word"])[-1]
    return AccountingUnavailable(
        f"SLURM's accounts do not answer: {said}.", "slurmdbd is down or busy; try again later."
    )


def _find_trouble(stderr: str) -> QadError | None:
    if any(text in stderr for text in _NO_CONFIGURATION):
        return _missing_configuration()
    for line in _lines(stderr):
        for text in _NO_ANSWER:
            if text in line:
                return no_answer(line[line.index(text) :])
    return None


def _missing_configuration() -> SlurmMissing:
    return SlurmMissing(
        "SLURM's commands find no configuration of a cluster.",
        "Run this on a login node of the cluster, or let SLURM_CONF name its slurm.conf.",
    )


def _lines(stderr: str) -> list[str]:
    """The lines without the command's name; of very much only the beginning."""
    said = "\n".join(fit_to_show(line, LONGEST_LINE) for line in stderr[: 8 * LONGEST_LINE].splitlines()[:MOST_LINES])
    lines = [re.sub(r"^\w+: (?:error|fatal): ", "", line.strip()).rstrip(".") for line in said.splitlines()]
    return [line for line in lines if line]
