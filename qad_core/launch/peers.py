"""What the launchers of one job's nodes tell each other, in files of the run folder: that they are there, where their
ranks meet, and how each of them ended.

They share no other channel. When a rank fails on one node, the other nodes learn it here and end theirs, instead
of waiting for a collective to time out. The first node then decides the job's exit code, which the batch script
reads: srun's own is the largest of its tasks', and that of a task that was only terminated counts among them.
srun also goes on when a node's task dies, so that the others can save: of a launcher that never started or was
killed itself nobody would hear, were it not missed here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from qad_core.errors import ExitCode, OutsideError

LOOK_SECONDS = 2.0
SETTLE_SECONDS = 6.0
"""After a failure the first node waits so long for the words of the others: theirs may be the cause."""
LOST_SECONDS = 30.0
"""A node that says nothing so long after another's failure is lost: a launcher ends its ranks in half of that."""
ARRIVAL_SECONDS = 600.0
"""So long after its own start a launcher waits for those of the other nodes, which may import a container first."""


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
    """One node's part in the talk about one start of a job."""

    folder: Path
    key: str
    """Names this start's files: no other start may have left or leave any of that name."""
    node_rank: int
    nodes: Sequence[str]
    """Names of the job's nodes, by their numbers."""
    arrival_seconds: float = ARRIVAL_SECONDS
    _began: float = field(default_factory=time.monotonic, repr=False)
    _next_look: float = field(default=0.0, repr=False)
    _ends: tuple[NodeEnd, ...] = ()
    _looked_for_absent: bool = False

    def arrive(self) -> None:
        """Say that this node's launcher runs."""
        self._path(f"node{self.node_rank}.here").touch()

    def is_here(self, node_rank: int) -> bool:
        """Whether a node's launcher has ever run."""
        return self._path(f"node{node_rank}.here").exists()

    def is_overdue(self, node_rank: int) -> bool:
        """Whether a node's launcher should have run long ago, and has not."""
        return time.monotonic() > self._began + self.arrival_seconds and not self.is_here(node_rank)

    def absence(self, node_rank: int) -> OutsideError:
        """That a node's launcher has not started, in words."""
        name = self.nodes[node_rank]
        return OutsideError(
            f"Node {node_rank} ({name}) has not started its launcher within {self.arrival_seconds:.0f} s.",
            "The err_... log of the job says why, such as a Python that is missing there or a container that could not "
            f"be imported. Leave the node out (--exclude={name} in cluster.slurm.extra_options), or give it more time "
            "(export QAD_ARRIVAL_SECONDS=1800 in cluster.slurm.setup).",
        )

    def write_port(self, port: int) -> None:
        """Say at which port of the first node the ranks meet."""
        self._write("port", f"{port}\n")

    def port(self) -> int | None:
        """Where the ranks meet, once the first node has said so."""
        said = _read_word(self._path("port"))
        return int(said) if said.isdigit() else None

    def report(self, end: NodeEnd) -> None:
        """Say how it ended on a node; the first word about a node counts."""
        name = f"node{end.node_rank}"
        if _read_end(self._path(name)) is None:
            self._write(name, end.model_dump_json() + "\n")
            self._next_look = 0.0

    def report_absent(self) -> None:
        """Say of each node whose launcher is overdue that it has failed; looks once, when the time is over."""
        if self._looked_for_absent or time.monotonic() <= self._began + self.arrival_seconds:
            return
        self._looked_for_absent = True
        for node_rank in range(len(self.nodes)):
            if self.is_overdue(node_rank):
                self._report_lost(node_rank, self.absence(node_rank))

    def ends(self) -> tuple[NodeEnd, ...]:
        """What all nodes have said so far; looks at most every 2 s."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            found = (_read_end(self._path(f"node{node_rank}")) for node_rank in range(len(self.nodes)))
            self._ends = tuple(end for end in found if end is not None)
        return self._ends

    def cause(self) -> NodeEnd | None:
        """The failure among all words so far that the others follow from; None while nobody has failed."""
        return choose_cause(self.ends())

    def first_node_ended(self) -> NodeEnd | None:
        """The word of the first node: there is nothing to wait for any more."""
        return next((end for end in self.ends() if end.node_rank == 0), None)

    def settle(self) -> NodeEnd | None:
        """The cause, waiting a little for words that may be on their way; None when nobody failed.

        Unless somebody was killed, a node that stays silent is lost, and that is the cause.
        """
        self._wait_for_words(SETTLE_SECONDS)
        cause = self.cause()
        if cause is not None and not cause.killed:
            self._wait_for_words(LOST_SECONDS - SETTLE_SECONDS)
            for node_rank in self._silent():
                here = self.is_here(node_rank)
                self._report_lost(node_rank, self._silence(node_rank) if here else self.absence(node_rank))
        return self.cause()

    def write_exit_code(self, code: int) -> None:
        """Leave the job's exit code for the batch script."""
        self._write("exit", f"{code}\n")

    def _wait_for_words(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.cause() is not None and self._silent() and time.monotonic() < deadline:
            time.sleep(0.2)
            self._next_look = 0.0

    def _silent(self) -> list[int]:
        """The other nodes that have not said how it ended there."""
        said = {end.node_rank for end in self._ends} | {self.node_rank}
        return [node_rank for node_rank in range(len(self.nodes)) if node_rank not in said]

    def _silence(self, node_rank: int) -> OutsideError:
        name = self.nodes[node_rank]
        return OutsideError(
            f"Node {node_rank} ({name}) is lost: its launcher said nothing more after another node failed.",
            "Something killed its processes, or the node itself is ill. Start again: it goes on from the newest "
            f"checkpoint. Leave the node out with --exclude={name} in cluster.slurm.extra_options.",
        )

    def _report_lost(self, node_rank: int, error: OutsideError) -> None:
        code, now = error.exit_code, time.time()
        end = NodeEnd(node_rank=node_rank, exit_code=code, killed=True, time=now, error=error.message, hint=error.hint)
        self.report(end)

    def _write(self, name: str, text: str) -> None:
        path = self._path(name)
        draft = path.with_name(f"{path.name}.tmp{self.node_rank}")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.key}.{name}"


def choose_cause(ends: Sequence[NodeEnd]) -> NodeEnd | None:
    """The failure that the others follow from: a kill before an error of a program, the earlier before the later."""
    failures = [end for end in ends if end.failed]
    return min(failures, key=lambda end: (not end.killed, end.time), default=None)


def _read_end(path: Path) -> NodeEnd | None:
    """A node's word; None when there is none yet, or it is no such word."""
    try:
        return NodeEnd.model_validate_json(_read_word(path))
    except ValueError:
        return None


def _read_word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
