"""A SLURM for the demo: answers as a cluster would whose jobs are those of the replayed runs, and lets them be changed.

Owns that made-up cluster. Nothing is run: no command, no job.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmRefused
from qad_core.slurm.partitions import PartitionEntry
from qad_core.slurm.queue_view import own_name
from qad_core.slurm.records import AccountingEntry, QueueEntry
from qad_tui.demo.recording import DemoLink
from qad_tui.demo.replay import TIME_LIMIT_SECONDS, ReplayedRun

_OTHERS = (
    ("maria", "llama-sft", "RUNNING", "", 8, "node[02-09]", 5400.0),
    ("chen", "eval-sweep", "RUNNING", "", 1, "node10", 900.0),
    ("maria", "llama-sft-2", "PENDING", "Dependency", 8, "", -1.0),
    ("ines", "pretrain-ablation", "PENDING", "Resources", 16, "", -1.0),
)
"""Other people's jobs: user, name, state, reason, nodes, node list, seconds since the start."""


@dataclass(frozen=True)
class DemoSlurm(SlurmClient):
    """Stands in for SlurmClient; what is cancelled or held stays so until the demo ends."""

    runs: tuple[ReplayedRun, ...] = ()
    _changed: dict[str, str] = field(default_factory=dict[str, str])
    """Job id -> state that a key has brought it to."""

    def queue(
        self, job_ids: Sequence[str] | None = None, *, user: str | None = None, ended: bool = False
    ) -> list[QueueEntry]:
        """Jobs that wait or run; others' too unless ids are given."""
        mine = [entry for entry in self._own() if job_ids is None or entry.job_id in job_ids]
        others = [] if job_ids is not None else self._others()
        return [entry for entry in (*mine, *others) if user is None or entry.user == user]

    def accounting(self, job_ids: Sequence[str], *, every_start: bool = False) -> list[AccountingEntry]:
        """How links ended."""
        ended = [(run, number, link) for run, number, link in self._links() if self._state(link) not in _LIVE]
        return [self._account(*found) for found in ended if found[2].job_id in job_ids]

    def partitions(self) -> list[PartitionEntry]:
        """One partition of 16 nodes with 8 GPUs each."""
        return [
            PartitionEntry("h100", "up", 4 * 3600, True, 16, 5, 10, 1, 128, 47),
            PartitionEntry("debug", "up", 1800, False, 2, 2, 0, 0, 16, 16),
        ]

    def cancel(self, job_ids: Sequence[str], *, only_pending: bool = False) -> None:
        """End jobs."""
        self._change(job_ids, "CANCELLED")

    def stop_gently(self, job_id: str) -> None:
        """End a running job."""
        self._change([job_id], "CANCELLED")

    def hold(self, job_ids: Sequence[str]) -> None:
        """Keep jobs from starting."""
        self._change(job_ids, "HELD")

    def release(self, job_ids: Sequence[str]) -> None:
        """Let them start again."""
        for job_id in job_ids:
            self._changed.pop(job_id, None)

    def requeue(self, job_ids: Sequence[str]) -> None:
        """Not in a recording."""
        raise SlurmRefused("A recorded job cannot run again.", "This is the demo.")

    def submit(
        self,
        script: Path,
        *,
        comment: str,
        dependency: str | None = None,
        environ: Mapping[str, str] | None = None,
        chdir: Path | None = None,
    ) -> str:
        """Not in a recording."""
        raise SlurmRefused("Nothing can be submitted to a recorded cluster.", "This is the demo.")

    def ping(self) -> bool:
        """It is there."""
        return True

    def version(self) -> str:
        """What it says it is."""
        return "demo"

    def _links(self) -> list[tuple[ReplayedRun, int, DemoLink]]:
        return [(run, number, link) for run in self.runs for number, link in enumerate(run.plan.links, 1)]

    def _state(self, link: DemoLink) -> str:
        changed = self._changed.get(link.job_id)
        return link.state if changed in (None, "HELD") else str(changed)

    def _own(self) -> list[QueueEntry]:
        live = [found for found in self._links() if self._state(found[2]) in _LIVE]
        return [self._entry(run, number, link) for run, number, link in live]

    def _entry(self, run: ReplayedRun, number: int, link: DemoLink) -> QueueEntry:
        now, running = time.time(), link.state == "RUNNING"
        start = run.start_of(number) if running else now + link.starts_in if link.starts_in else None
        held = self._changed.get(link.job_id) == "HELD"
        return _entry(
            link.job_id,
            state=link.state,
            reason="" if running else "JobHeldUser" if held else link.reason,
            user=own_name(),
            name=run.plan.folder,
            submitted=run.began - 900,
            start=start,
            elapsed=int(now - start) if running and start else None,
            node_list="node01" if running else "",
            dependency="" if running or number == 1 else f"afterany:{run.plan.links[number - 2].job_id}(unfulfilled)",
            comment=f"qad:demo{link.job_id}",
        )

    def _others(self) -> list[QueueEntry]:
        now = time.time()
        return [
            _entry(
                str(48200 + number),
                state=state,
                reason=reason,
                user=user,
                name=name,
                submitted=now - 7200,
                start=now - since if since >= 0 else None,
                elapsed=int(since) if since >= 0 else None,
                node_list=node_list,
                nodes=nodes,
            )
            for number, (user, name, state, reason, nodes, node_list, since) in enumerate(_OTHERS)
        ]

    def _account(self, run: ReplayedRun, number: int, link: DemoLink) -> AccountingEntry:
        start, end = run.start_of(number), run.end_of(number)
        state = self._state(link)
        return AccountingEntry(
            job_id=link.job_id,
            state=state,
            cancelled_by="",
            exit_code=link.exit_code,
            signal=None,
            submit_time=run.began - 900,
            start_time=start,
            end_time=end,
            elapsed_seconds=max(0, int(end - start)),
            time_limit_seconds=TIME_LIMIT_SECONDS,
            node_list="node01",
            reason="",
        )

    def _change(self, job_ids: Sequence[str], state: str) -> None:
        known = {link.job_id for _, _, link in self._links()}
        for job_id in job_ids:
            if job_id not in known:
                raise SlurmRefused(f"Job {job_id} is another user's.", "Only your own jobs can be changed.")
            self._changed[job_id] = state


_LIVE = ("PENDING", "RUNNING")


def _entry(
    job_id: str,
    *,
    state: str,
    reason: str,
    user: str,
    name: str,
    submitted: float,
    start: float | None,
    elapsed: int | None,
    node_list: str,
    nodes: int = 1,
    dependency: str = "",
    comment: str = "",
) -> QueueEntry:
    return QueueEntry(
        job_id=job_id,
        state=state,
        reason=reason,
        partition="h100",
        account="research",
        user=user,
        submit_time=submitted,
        start_time=start,
        end_time=start + TIME_LIMIT_SECONDS if start else None,
        time_limit_seconds=TIME_LIMIT_SECONDS,
        elapsed_seconds=elapsed,
        num_nodes=nodes,
        node_list=node_list,
        dependency=dependency,
        exit_code=None,
        signal=None,
        gpus=8 * nodes,
        priority=1000,
        restarts=0,
        name=name,
        comment=comment,
    )
