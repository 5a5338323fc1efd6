"""What the launchers of one job's nodes tell each other, in files of the run folder: how each of them ended.

They share no other channel. When a rank fails on one node, the other nodes learn it here and end theirs, instead
of waiting for a collective to time out. The first node then decides the job's exit code, which the batch script
reads: srun's own is the largest of its tasks', and that of a task that was only terminated counts among them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from qad_core.errors import ExitCode

LOOK_SECONDS = 2.0
SETTLE_SECONDS = 6.0
"""After a failure the first node waits so long for the words of the others: theirs may be the cause."""


class NodeEnd(BaseModel):
    """How one node's processes ended, or that the first of them has failed."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)

    node_rank: int
    """The node's number in the job."""
    exit_code: int
    """Exit code of the node's processes together."""
    killed: bool = False
    """Whether the first failure was a signal that nobody of us sent: a cause, never a consequence."""
    time: float = 0.0
    """Unix time of the word."""
    error: str = ""
    """What went wrong."""
    hint: str = ""
    """What to do about it."""

    @property
    def failed(self) -> bool:
        """Whether it is a failure rather than a whole or an early end."""
        return self.exit_code not in (ExitCode.DONE, ExitCode.STOPPED_EARLY)


@dataclass
class Peers:
    """One node's part in the talk about one start of a job: `key` is its id and how often it was restarted."""

    folder: Path
    key: str
    node_rank: int
    nodes: int
    _next_look: float = field(default=0.0, repr=False)
    _ends: tuple[NodeEnd, ...] = ()

    def report(self, end: NodeEnd) -> None:
        """Say how it ended here; the first word of a node counts."""
        path = self._path(self.node_rank)
        if path.exists():
            return
        draft = path.with_suffix(".tmp")
        draft.write_text(end.model_dump_json() + "\n", encoding="utf-8")
        os.replace(draft, path)
        self._next_look = 0.0

    def ends(self) -> tuple[NodeEnd, ...]:
        """What all nodes have said so far; looks at most every 2 s."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            found = (_read(self._path(node_rank)) for node_rank in range(self.nodes))
            self._ends = tuple(end for end in found if end is not None)
        return self._ends

    def has_failed(self) -> bool:
        """Whether some node has failed."""
        return any(end.failed for end in self.ends())

    def first_node_ended(self) -> NodeEnd | None:
        """The word of the first node: there is nothing to wait for any more."""
        return next((end for end in self.ends() if end.node_rank == 0), None)

    def settle(self) -> NodeEnd | None:
        """The cause among all words, waiting a little for those that may be on their way; None when nobody failed."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.has_failed() and len(self._ends) < self.nodes and time.monotonic() < deadline:
            time.sleep(0.2)
            self._next_look = 0.0
        return choose_cause(self.ends())

    def write_exit_code(self, code: int) -> None:
        """Leave the job's exit code for the batch script."""
        path = self.folder / f"{self.key}.exit"
        draft = path.with_suffix(".exit.tmp")
        draft.write_text(f"{code}\n", encoding="utf-8")
        os.replace(draft, path)

    def _path(self, node_rank: int) -> Path:
        return self.folder / f"{self.key}.node{node_rank}"


def choose_cause(ends: Sequence[NodeEnd]) -> NodeEnd | None:
    """The failure that the others follow from: a kill before an error of a program, the earlier before the later."""
    failures = [end for end in ends if end.failed]
    return min(failures, key=lambda end: (not end.killed, end.time), default=None)


def _read(path: Path) -> NodeEnd | None:
    try:
        return NodeEnd.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None
