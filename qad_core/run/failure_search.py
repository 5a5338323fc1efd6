"""Everything in a start's logs that says that something failed, and which of it came first.

Owns the order: a cause goes before what follows from it, and among causes the earliest is the one. It reads logs
through `log_scan.py`, and knows neither status.json nor SLURM's accounting (`failure.py`) nor advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qad_core.run.failure_kinds import PYTHON_EXCEPTION, FailureKind, Weight
from qad_core.run.failure_words import TRIGGERS, decisive_line, kind_of_error, kind_of_line, kind_of_own_error
from qad_core.run.log_scan import LogText
from qad_core.run.tracebacks import Chain, Raised, find_tracebacks

MOST_LINES = 2000
"""Of a log with more suspicious lines, the first and the last are looked at, half and half."""
MOST_FINDINGS = 200
CLOCK_SLACK_SECONDS = 2.0

_OWN_ERROR = re.compile(r"^error: (?P<message>.+)")
_OWN_RECORD = re.compile(r" ERROR failed: (?P<message>.+)")
_BUG = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b")
"""How our own record names what it has just printed the traceback of."""
_STARTED = (b", start ", b" job ")
_PROGRESS = (b"| learning rate", b"evaluation at step ")
_RANK_IN_LINE = re.compile(r"\[Rank (\d+)\]|\brank (\d+) (?:was|of|did)\b")
_BENIGN = frozenset(
    {
        "KeyError", "AttributeError", "ImportError", "ModuleNotFoundError", "StopIteration", "StopAsyncIteration",
        "IndexError", "LookupError", "Empty", "CancelledError", "GeneratorExit",
    }
)  # fmt: skip
"""Raised all the time by code that tries one way and then another."""


@dataclass(frozen=True)
class Finding:
    """One sign of a failure in a log."""

    kind: FailureKind
    message: str
    log: LogText
    index: int
    """Line, as an index of the log's `raw`."""
    time: float
    rank: int | None
    exception: str = ""
    """Class of the exception, when it is one."""
    hint: str = ""
    """Our own error's advice."""

    @property
    def order(self) -> tuple[int, float, bool, int]:
        """The smallest is the root cause; a rank's own log before a copy of it, and the first line before the next."""
        return self.kind.weight, self.time, self.rank is None, self.index


def search_log(log: LogText, *, since: float, processes: int | None) -> list[Finding]:
    """All findings of one log, as of a start at Unix time `since` with so many ranks a node.

    What the training went on after is none, and neither is what an earlier start wrote into the same file.
    """
    first = _first_line_of_start(log)
    chains = find_tracebacks(log, first=first)
    taken = {index for chain in chains for index in chain.lines}
    lines = [index for index in log.lines_with(TRIGGERS, first=first) if index not in taken]
    half = MOST_LINES // 2
    looked_at = lines if len(lines) <= MOST_LINES else [*lines[:half], *lines[-half:]]
    found = [_of_chain(log, chain, processes) for chain in chains[:MOST_FINDINGS]]
    for index in looked_at:
        finding = _of_line(log, index, processes) if len(found) < MOST_FINDINGS else None
        found += [finding] if finding else []
    return [finding for finding in found if log.is_own or finding.time >= since - CLOCK_SLACK_SECONDS]


def lagging_rank(findings: Sequence[Finding]) -> tuple[int, int, int] | None:
    """(rank, its collective, the others') of the rank whose NCCL watchdog saw the earliest collective of all."""
    seen: dict[int, int] = {}
    for finding in findings:
        number = re.search(r"SeqNum=(\d+)", finding.message)
        if number and finding.rank is not None:
            seen[finding.rank] = min(int(number[1]), seen.get(finding.rank, int(number[1])))
    if len(seen) < 2 or len(set(seen.values())) == 1:
        return None
    rank = min(seen, key=lambda rank: seen[rank])
    return rank, seen[rank], max(seen.values())


def global_rank(log: LogText, processes: int | None) -> int | None:
    """The rank among all whose log it is, with so many ranks a node; None where that is not known."""
    if log.named_rank is None or not log.node:
        return log.named_rank
    return None if processes is None else log.node * processes + log.named_rank


def _first_line_of_start(log: LogText) -> int:
    """After the last sign of progress, and in a job's log after the last start of the job."""
    marks = [log.last_line_with(word) for word in _PROGRESS]
    if not log.is_own:
        marks.append(log.last_line_with(*_STARTED))
    return 1 + max(mark for mark in (*marks, -1) if mark is not None)


def _of_chain(log: LogText, chain: Chain, processes: int | None) -> Finding:
    root, kind = _root_of(chain)
    if root.text.startswith("qad_core.errors."):
        return _of_explained(log, root, processes)
    line = decisive_line(kind, root.text)
    first = root.text.splitlines()[0]
    said = [first, *([line.strip()] if line != first else []), *([f"  at {root.frame}"] if root.frame else [])]
    rank = _rank_of(log, root.index, first, processes)
    # The time is that of the traceback's record, which begins above its header.
    time = log.time_of(min(chain.lines))
    return Finding(kind, "\n".join(said), log, root.index, time, rank, exception=root.name)


def _of_explained(log: LogText, root: Raised, processes: int | None) -> Finding:
    """An error of ours that nobody caught: its text is the message and, below it, the hint."""
    message, _, hint = root.text.partition(": ")[2].partition("\n")
    rank = _rank_of(log, root.index, message, processes)
    time = log.time_of(root.index)
    return Finding(kind_of_own_error(message), message, log, root.index, time, rank, hint=" ".join(hint.split()))


def _root_of(chain: Chain) -> tuple[Raised, FailureKind]:
    """The first exception that is none of those raised all the time; its kind may be told by what it led to."""
    telling = [raised for raised in chain.raised if raised.name not in _BENIGN]
    root = telling[0] if telling else chain.raised[-1]
    kind = kind_of_error(root.text) or PYTHON_EXCEPTION
    if kind is not PYTHON_EXCEPTION and kind.weight == Weight.CAUSE:
        return root, kind
    for raised in _led_to(chain, root):
        later = kind_of_error(raised.text)
        if later is not None and later.weight == Weight.CAUSE:
            return root, later
    return root, kind


def _led_to(chain: Chain, root: Raised) -> Iterator[Raised]:
    """The exceptions that were raised from one, which say the same in other words."""
    at = chain.raised.index(root)
    for before, raised in zip(chain.raised[at:], chain.raised[at + 1 :], strict=False):
        if not before.led_to_next:
            return
        yield raised


def _of_line(log: LogText, index: int, processes: int | None) -> Finding | None:
    line = log.line(index)
    if line.is_quiet:
        return None
    own = _OWN_ERROR.match(line.text) or _OWN_RECORD.search(line.text)
    if own is not None:
        return _of_own_error(log, index, own["message"], processes)
    kind = kind_of_line(line.text)
    if kind is None:
        return None
    said = "\n".join([line.text, *_details(log, index, kind)])
    return Finding(kind, said, log, index, log.time_of(index), _rank_of(log, index, line.text, processes))


def _of_own_error(log: LogText, index: int, message: str, processes: int | None) -> Finding:
    following = log.line(index + 1) if index + 1 < len(log.raw) else None
    is_hint = following is not None and following.text.startswith("  ") and following.task == log.line(index).task
    hint = following.text.strip() if is_hint and following is not None else ""
    is_bug = _BUG.match(message) is not None
    kind = (kind_of_error(message) or PYTHON_EXCEPTION) if is_bug else kind_of_own_error(message)
    exception = message.split(":", 1)[0].rpartition(".")[2] if is_bug else ""
    rank = _rank_of(log, index, message, processes)
    return Finding(kind, message, log, index, log.time_of(index), rank, exception, hint)


def _details(log: LogText, index: int, kind: FailureKind) -> list[str]:
    """What enroot said, which pyxis passes on indented or in the next lines."""
    if kind.name != "container":
        return []
    following = (log.line(at).text for at in range(index + 1, min(index + 8, len(log.raw))))
    return [text for text in following if re.search(r"\[ERROR\]|pyxis: {3,}\S|failed to execute", text)][:2]


def _rank_of(log: LogText, index: int, text: str, processes: int | None) -> int | None:
    """The rank among all: as the line names it, else by the log's name."""
    label = log.line(index).rank
    named = _RANK_IN_LINE.search(text)
    if label is not None or named is not None:
        return label if label is not None else int(named[1] or named[2]) if named else None
    return global_rank(log, processes)
