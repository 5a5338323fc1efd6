"""The failure card: why a start of a run failed, in one record, with what to do about it.

Owns the verdict over all sources: the logs of every rank, the run's status, and how SLURM says that the job ended.
The words are known in `failure_kinds.py`, found in `failure_search.py`, and answered in `failure_advice.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.schema import RunConfig
from qad_core.errors import ExitCode
from qad_core.run.failure_advice import advise
from qad_core.run.failure_changes import Situation, propose_changes
from qad_core.run.failure_kinds import OWN_KINDS, PYTHON_EXCEPTION, FailureKind, Weight
from qad_core.run.failure_search import Finding, global_rank, lagging_rank, search_log
from qad_core.run.failure_words import kind_named, kind_of_own_error, kind_of_slurm_end
from qad_core.run.log_scan import LogText, read_log
from qad_core.run.redact import redact, shorten
from qad_core.run.status import Status

MESSAGE_CHARACTERS = 600
LINES_BEFORE = 5
LINES_AFTER = 4
MOST_SILENT = 4
"""More ranks without an error tell nothing."""
_NODE = re.compile(r"\bON (\S+) CANCELLED|Node failure on (\S+)|srun: error: ([\w.-]+): task|\bNode (\S+) is down")
_HINT_FITS = frozenset({"cuda_out_of_memory", "host_out_of_memory", "killed", "unknown"})
"""Kinds whose own advice says more than the hint that comes with our error."""


@dataclass(frozen=True)
class SlurmEnd:
    """What SLURM says of a job; the caller has it from sacct or squeue."""

    job_id: str
    state: str
    """`TIMEOUT`, `NODE_FAIL`, `CANCELLED by 1001`, ...; empty when it is not known."""
    reason: str = ""
    """SLURM's own reason."""
    node_list: str = ""
    """Nodes of the job, as SLURM writes them."""
    exit_code: int | None = None
    """Exit code of the batch script."""
    signal: int | None = None
    """Signal that ended the batch script, 0 for none."""


@dataclass(frozen=True)
class Failure:
    """The first root cause of a failed start."""

    kind: str
    """One of `failure_kinds.py`."""
    title: str
    """The kind in plain words."""
    message: str
    """The decisive lines, without secrets."""
    rank: int | None
    """Rank among all ranks, where it is known."""
    where: str
    """Node and name of the log."""
    log: Path | None
    line: int | None
    """1-based line of the log; None without a log, and in a log too long to be counted."""
    time: float | None
    """Unix time; where no line tells it, that of the log's last change."""
    advice: tuple[str, ...]
    """What to do, in sentences."""
    changes: tuple[str, ...]
    """Overrides that carry it out, `train.micro_batch_size=1`; a shell wants those with brackets in quotes."""
    excerpt: tuple[str, ...]
    """Lines of the log around it, without secrets."""
    others: int
    """How many other ranks failed too."""
    times: int = 1
    """How many starts in a row, this one the last, have failed of this kind (`crash_loop.py`)."""
    chain_stopped: str = ""
    """Why the rest of its chain was stopped; empty where it was not."""


@dataclass(frozen=True)
class _Cause:
    """A cause outside the logs: what status.json or SLURM says."""

    kind: FailureKind
    message: str
    hint: str = ""
    where: str = ""
    time: float | None = None
    node: str = ""


def find_failure(
    logs: Sequence[Path],
    config: RunConfig | None,
    status: Status | None,
    slurm: SlurmEnd | None = None,
    *,
    since: float = 0.0,
) -> Failure | None:
    """Why the start that wrote these logs failed; None when nothing failed.

    `logs` are all of one start (`start_logs.py`). A status from before `since`, the Unix time of the start, is
    another start's. A log that is missing or cannot be read is passed over.
    """
    status = status if status is not None and status.updated >= since else None
    if _ended_well(status, slurm):
        return None
    processes = config.cluster.processes_per_node if config is not None else None
    texts = [text for text in map(read_log, logs) if text is not None and text.modified >= since]
    findings = [found for text in texts for found in search_log(text, since=since, processes=processes)]
    outside = [cause for cause in (_of_status(status), _of_slurm(slurm)) if cause is not None]
    root = min(findings, key=lambda found: found.order, default=None)
    cause = min(outside, key=lambda cause: cause.kind.weight, default=None)
    if root is not None and (cause is None or root.kind.weight <= cause.kind.weight):
        waited_for = _waited_for(root, findings, texts, processes)
        return _card_of_finding(root, findings, config, status, slurm, waited_for)
    return None if cause is None else _card_of_cause(cause, findings, config, status)


def _ended_well(status: Status | None, slurm: SlurmEnd | None) -> bool:
    """Whether the run is done, or stopped as it should and nothing in SLURM speaks against it."""
    if status is None or status.phase not in ("done", "stopped"):
        return False
    if status.phase == "done" or slurm is None or slurm.exit_code == ExitCode.STOPPED_EARLY:
        return True
    kind = kind_of_slurm_end(slurm.state, exit_code=slurm.exit_code, signal=slurm.signal)
    return kind is None or kind.name == "cancelled"


def _of_status(status: Status | None) -> _Cause | None:
    if status is None or status.phase != "failed":
        return None
    kind = kind_of_own_error(status.error) if status.error else kind_named("unknown")
    if status.exit_code == ExitCode.BUG and kind in OWN_KINDS:
        kind = PYTHON_EXCEPTION
    return _Cause(kind, status.error, status.hint, status.host, status.updated)


def _of_slurm(slurm: SlurmEnd | None) -> _Cause | None:
    if slurm is None:
        return None
    kind = kind_of_slurm_end(slurm.state, exit_code=slurm.exit_code, signal=slurm.signal)
    if kind is None:
        return None
    ended = [f"exit code {slurm.exit_code}"] if slurm.exit_code else []
    ended += [f"signal {slurm.signal}"] if slurm.signal else []
    ended += [slurm.reason] if slurm.reason not in ("", "None") else []
    details = f" ({', '.join(ended)})" if ended else ""
    said = f"SLURM ended job {slurm.job_id} as {slurm.state}{details}"
    single = slurm.node_list if slurm.node_list and not re.search(r"[\[,]", slurm.node_list) else ""
    return _Cause(kind, said, where=slurm.node_list or f"job {slurm.job_id}", node=single)


def _card_of_finding(
    root: Finding,
    findings: Sequence[Finding],
    config: RunConfig | None,
    status: Status | None,
    slurm: SlurmEnd | None,
    waited_for: str,
) -> Failure:
    message, hint = _own_words(root, status)
    node = _node_of(root, slurm)
    situation = Situation(config, status, f"{message} {hint}", node, waited_for)
    return Failure(
        kind=root.kind.name,
        title=root.kind.title.format(name=root.exception or "an error"),
        message=shorten(redact(message), MESSAGE_CHARACTERS),
        rank=root.rank,
        where=", ".join(part for part in (node or _node_words(root.log), root.log.path.name) if part),
        log=root.log.path,
        line=root.log.number(root.index),
        time=root.time,
        advice=_advice(root.kind, hint, situation),
        changes=propose_changes(root.kind.name, situation),
        excerpt=root.log.excerpt(root.index, before=LINES_BEFORE, after=LINES_AFTER),
        others=len({found.rank for found in findings if found.rank is not None} - {root.rank}),
    )


def _card_of_cause(
    cause: _Cause, findings: Sequence[Finding], config: RunConfig | None, status: Status | None
) -> Failure:
    situation = Situation(config, status, f"{cause.message} {cause.hint}", cause.node)
    said = f"{cause.message} " + (status.error if status is not None and status.phase == "failed" else "")
    named = re.search(r"\brank (\d+) (?:was|of|ended)\b", said)
    rank = int(named[1]) if named else None
    exception = cause.message.split(":", 1)[0] if re.match(r"^[\w.]+: ", cause.message) else "an error"
    return Failure(
        kind=cause.kind.name,
        title=cause.kind.title.format(name=exception),
        message=shorten(redact(cause.message), MESSAGE_CHARACTERS),
        rank=rank,
        where=cause.where,
        log=None,
        line=None,
        time=cause.time,
        advice=_advice(cause.kind, cause.hint, situation),
        changes=propose_changes(cause.kind.name, situation),
        excerpt=(),
        others=len({found.rank for found in findings if found.rank is not None} - {rank}),
    )


def _own_words(root: Finding, status: Status | None) -> tuple[str, str]:
    """Message and hint; a log's record of our error holds both in one line, which status.json tells apart."""
    if status is not None and status.phase == "failed" and status.error and status.error in root.message:
        is_own = not root.exception and "\n" not in root.message
        return (status.error, status.hint) if is_own else (root.message, status.hint or root.hint)
    return root.message, root.hint


def _advice(kind: FailureKind, hint: str, situation: Situation) -> tuple[str, ...]:
    if hint and kind.name not in _HINT_FITS:
        return (redact(hint[0].upper() + hint[1:]),)
    return advise(kind.name, situation)


def _waited_for(root: Finding, findings: Sequence[Finding], texts: Sequence[LogText], processes: int | None) -> str:
    """A sentence on the rank that the others waited for, where the logs tell: one behind, or one without a word."""
    if root.kind.weight != Weight.LOST:
        return ""
    late = lagging_rank(findings)
    if late is not None:
        rank, own, others = late
        return f"Rank {rank} was behind: it stood at collective {own}, others at {others}. Look at its log first."
    failed = {found.rank for found in findings}
    silent = sorted({rank for text in texts if (rank := global_rank(text, processes)) is not None} - failed)
    shown = ", ".join(str(rank) for rank in silent[:MOST_SILENT])
    return f"No error in the logs of rank {shown}: look there first." if 0 < len(silent) <= MOST_SILENT else ""


def _node_of(root: Finding, slurm: SlurmEnd | None) -> str:
    """Name of the node that a line of SLURM names; of a job with one node, that node."""
    named = _NODE.search(root.message)
    if named is not None:
        return next(group for group in named.groups() if group)
    single = slurm.node_list if slurm is not None else ""
    return "" if re.search(r"[\[,]", single) else single


def _node_words(log: LogText) -> str:
    return "" if not log.node else f"node {log.node}"
