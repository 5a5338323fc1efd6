"""What squeue and sacct know of a job: the columns asked for, and their parsers.

Pure: text to records. A column is asked for by its name and ends with a byte that no value holds, so nothing is
cut off and nothing depends on widths. A job's name and comment may hold anything, a newline too: they come
last, and a line ends with a byte of its own.

Every column here is in SLURM 22.05 to 25.11 (fmt_data_job in src/squeue/opts.c, fields in src/sacct/sacct.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qad_core.slurm.errors import AccountingUnavailable, SlurmUnavailable
from qad_core.slurm.jobs import is_finished
from qad_core.slurm.values import (
    exit_status,
    gpus_of_request,
    leading_number,
    seconds_of_duration,
    text_or_nothing,
    unix_time,
)

COLUMN_END = "\x1f"
RECORD_END = "\x1e"
QUEUE_COLUMNS = (
    "JobArrayID", "State", "Reason", "Partition", "Account", "UserName", "SubmitTime", "StartTime", "EndTime",
    "TimeLimit", "TimeUsed", "NumNodes", "NumTasks", "NodeList", "Dependency", "exit_code", "tres-alloc",
    "tres-per-job", "tres-per-node", "tres-per-task", "PriorityLong", "RestartCnt", "Comment", "Name",
)  # fmt: skip
"""JobID would be the same for all waiting tasks of an array."""
QUEUE_FORMAT = f":{COLUMN_END},".join(QUEUE_COLUMNS) + f":{RECORD_END}"
"""As --Format takes it."""
ACCOUNTING_COLUMNS = (
    "JobID", "State", "ExitCode", "Submit", "Start", "End", "ElapsedRaw", "TimelimitRaw", "NodeList", "Reason",
)  # fmt: skip
SUBMISSION_COLUMNS = ("JobID", "Comment", "SubmitLine")
"""SubmitLine holds a job's --comment also where the cluster does not store comments (AccountingStoreFlags)."""
_HEAD_COLUMNS = len(QUEUE_COLUMNS) - 1


class QueueEntry(NamedTuple):
    """A job as the controller has it in memory: from its submission to some minutes after its end.

    A named tuple, since a cluster has ten thousand of them, and a frozen dataclass takes four times as long to make.
    """

    job_id: str
    """`123`, or `123_4` for a task of an array."""
    state: str
    """SLURM's word, such as PENDING."""
    reason: str
    """Why it waits or why it failed, in SLURM's words; empty for none."""
    partition: str
    """Partition, or several with commas while it waits."""
    account: str
    user: str
    submit_time: float | None
    """Unix time."""
    start_time: float | None
    """Unix time; while it waits SLURM's estimate, which may be missing."""
    end_time: float | None
    """Unix time; before the end that of its walltime."""
    time_limit_seconds: int | None
    """Walltime; None when there is none."""
    elapsed_seconds: int | None
    """Time that it has run, without suspensions."""
    num_nodes: int
    node_list: str
    """Nodes in SLURM's short form (`hostlist.py`)."""
    dependency: str
    """What it still waits for: `afterok:10(failed)`."""
    exit_code: int | None
    """Of the batch script; None before the end."""
    signal: int | None
    """Signal that ended the batch script."""
    gpus: int
    """GPUs it has or asks for, on all its nodes."""
    priority: int
    restarts: int
    """How often it was started again."""
    name: str
    comment: str


@dataclass(frozen=True, slots=True)
class AccountingEntry:
    """A start of a job as the accounts have it; they lag behind by seconds."""

    job_id: str
    """As in `QueueEntry`; a waiting array is one entry, `123_[4-9%2]`."""
    state: str
    """SLURM's word, such as CANCELLED."""
    cancelled_by: str
    """Number of the user who cancelled it; empty for nobody."""
    exit_code: int | None
    """Of the batch script; None before the end."""
    signal: int | None
    """Signal that ended the batch script."""
    submit_time: float | None
    """Unix time."""
    start_time: float | None
    """Unix time."""
    end_time: float | None
    """Unix time."""
    elapsed_seconds: int
    time_limit_seconds: int | None
    """Walltime; None when there is none."""
    node_list: str
    """Nodes in SLURM's short form (`hostlist.py`)."""
    reason: str
    """Why it waited last or why it failed, in SLURM's words; empty for none."""


def parse_queue(text: str) -> list[QueueEntry]:
    """The jobs in squeue's answer to `QUEUE_COLUMNS`; raises SlurmUnavailable for an answer to something else."""
    try:
        return [_queue_entry(record) for record in text.split(RECORD_END + "\n") if record]
    except ValueError as error:
        raise SlurmUnavailable(*_unreadable("squeue", text)) from error


def parse_accounting(text: str) -> list[AccountingEntry]:
    """The starts in sacct's answer to `ACCOUNTING_COLUMNS`; raises AccountingUnavailable for one to something else."""
    try:
        return [_accounting_entry(line) for line in text.split("\n") if line]
    except ValueError as error:
        raise AccountingUnavailable(*_unreadable("sacct", text)) from error


def parse_submissions(text: str) -> Iterator[tuple[str, str, str]]:
    """(job id, comment, command line) in sacct's answer to `SUBMISSION_COLUMNS`.

    Lines without all three are passed over: what follows a newline in a command line.
    """
    for line in text.split("\n"):
        fields = line.split(COLUMN_END, 2)
        if len(fields) == 3:
            yield fields[0], fields[1], fields[2]


def _unreadable(command: str, text: str) -> tuple[str, str]:
    said = text[:200].replace(COLUMN_END, "|")
    return f"{command}'s answer cannot be read: {said!r}.", f"See whether `{command}` is SLURM's own."


def _queue_entry(record: str) -> QueueEntry:
    (
        job_id, state, reason, partition, account, user, submitted, start, end, limit, used, nodes, tasks, node_list,
        dependency, status, allocated, per_job, per_node, per_task, priority, restarts, comment, name,
    ) = record.split(COLUMN_END, _HEAD_COLUMNS)  # fmt: skip
    exit_code, signal = _ending(state, status)
    # tres-alloc counts GPUs only where AccountingStorageTRES names them
    gpus = (
        gpus_of_request(allocated)
        or gpus_of_request(per_job)
        or gpus_of_request(per_node) * leading_number(nodes)
        or gpus_of_request(per_task) * leading_number(tasks)
    )
    # in the order of the fields: by their names it takes half as long again
    return QueueEntry._make(
        (
            job_id, state, text_or_nothing(reason), partition, text_or_nothing(account), user,
            unix_time(submitted), unix_time(start), unix_time(end), seconds_of_duration(limit),
            seconds_of_duration(used), leading_number(nodes), text_or_nothing(node_list), text_or_nothing(dependency),
            exit_code, signal, gpus, int(priority) if priority.isdecimal() else 0, leading_number(restarts), name,
            text_or_nothing(comment),
        )
    )  # fmt: skip


def _accounting_entry(record: str) -> AccountingEntry:
    job_id, states, status, submitted, start, end, elapsed, limit, node_list, reason = record.split(COLUMN_END)
    state, _, user = states.partition(" by ")
    exit_code, signal = _ending(state, status)
    return AccountingEntry(
        job_id=job_id,
        state=state,
        cancelled_by=user,
        exit_code=exit_code,
        signal=signal,
        submit_time=unix_time(submitted),
        start_time=unix_time(start),
        end_time=unix_time(end),
        elapsed_seconds=leading_number(elapsed),
        time_limit_seconds=int(limit) * 60 if limit.isdigit() else None,
        node_list=text_or_nothing(node_list),
        reason=text_or_nothing(reason),
    )


def _ending(state: str, status: str) -> tuple[int | None, int | None]:
    """Exit code and signal; nothing of a job that has not ended, where SLURM writes 0."""
    return (exit_status(status) if is_finished(state) else None) or (None, None)
