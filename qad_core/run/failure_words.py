"""Which kind of failure a line, an exception, an error of ours, or SLURM's state of a job means.

Owns the look-up in the table of `failure_kinds.py`, and the words by which a log is looked through quickly.
"""

from __future__ import annotations

import re

from qad_core.run.failure_kinds import (
    DEADLINE,
    KINDS,
    OWN_KINDS,
    PYTHON_EXCEPTION,
    UNWRITABLE_OUTPUT,
    FailureKind,
)

_BY_NAME = {kind.name: kind for kind in (*KINDS, PYTHON_EXCEPTION, DEADLINE, UNWRITABLE_OUTPUT, *OWN_KINDS)}
_ANYWHERE = tuple((kind, re.compile("|".join(kind.anywhere))) for kind in KINDS if kind.anywhere)
_RAISED = tuple((kind, re.compile("|".join((*kind.anywhere, *kind.raised)))) for kind in KINDS)
_OWN = tuple((kind, re.compile("|".join(kind.raised))) for kind in OWN_KINDS)
_STATES = {
    "TIMEOUT": "walltime",
    "NODE_FAIL": "node_failure",
    "BOOT_FAIL": "node_failure",
    "PREEMPTED": "preemption",
    "OUT_OF_MEMORY": "host_out_of_memory",
    "DEADLINE": "deadline",
    "CANCELLED": "cancelled",
    "FAILED": "unknown",
}
_UNWRITABLE = 53
"""slurmstepd's signal when it cannot open --output."""
_SIGKILL = 9
_CRASHES = frozenset({4, 7, 8, 11})

TRIGGERS: tuple[bytes, ...] = (
    b"error", b"fatal", b"cancelled", b"oom", b"memory", b"killed", b"rate limit", b"429", b"pyxis", b"enroot",
    b"apptainer", b"no such file", b"mismatch", b"cannot be multiplied", b"param with shape", b"must match the size",
    b"for input of size", b"no space left", b"quota", b"ecc", b"fallen off", b"xid", b"cuda", b"cublas", b"cudnn",
    b"watchdog", b"entire process down", b"terminate called", b"sigkill", b"sigabrt", b"sigsegv", b"sigbus", b"sigill",
    b"sigfpe", b"exitcode", b"segmentation", b"core dumped", b"no module named", b"can't open", b"execve", b"container",
    b"defaultcpuallocator", b"exit code", b"terminated", b"gated", b"unauthorized", b"forbidden",
)  # fmt: skip
"""One of these, in any case, is in every line that `kind_of_line` knows: a quick look before the patterns."""


def kind_named(name: str) -> FailureKind:
    """The kind of a name."""
    return _BY_NAME[name]


def kind_of_line(text: str) -> FailureKind | None:
    """The kind that a line means wherever it stands."""
    return next((kind for kind, pattern in _ANYWHERE if pattern.search(text)), None)


def kind_of_error(text: str) -> FailureKind | None:
    """The kind that an exception, or the text of an error of ours, means."""
    return next((kind for kind, pattern in _RAISED if pattern.search(text)), None)


def kind_of_own_error(text: str) -> FailureKind:
    """The kind of an error that this product explained itself."""
    return kind_of_error(text) or next(kind for kind, pattern in _OWN if pattern.search(text))


def decisive_line(kind: FailureKind, text: str) -> str:
    """Of several lines, the first that the kind is known by; else the first."""
    lines = text.splitlines() or [""]
    pattern = next((pattern for known, pattern in _RAISED if known is kind), None)
    return next((line for line in lines if pattern is not None and pattern.search(line)), lines[0])


def kind_of_slurm_end(state: str, *, exit_code: int | None, signal: int | None) -> FailureKind | None:
    """The kind of SLURM's state of an ended job (`CANCELLED by 1001` too); None where it did not fail."""
    word = state.split(" ")[0].rstrip("+").upper()
    if word == "FAILED" and _UNWRITABLE in (signal, exit_code):
        return UNWRITABLE_OUTPUT
    if word == "FAILED" and signal == _SIGKILL:
        return kind_named("killed")
    if word == "FAILED" and signal in _CRASHES:
        return kind_named("crash")
    name = _STATES.get(word)
    return None if name is None else kind_named(name)
