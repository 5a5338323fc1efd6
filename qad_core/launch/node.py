"""One node of a SLURM job: `python -m qad_core.launch RUN_FOLDER`, one task a node, started by srun.

Owns what the first node does before and after the ranks: whether this link of the chain has anything left to
do, what is written down of it, and the job's exit code for the batch script. The ranks are `run_local.py`'s.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qad_core.config.load import read_resolved
from qad_core.config.schema import RunConfig, SlurmConfig
from qad_core.errors import BugError, BusyError, ConfigError, ExitCode, QadError, explain_os_error
from qad_core.launch.chain import Verdict, judge_end, judge_start
from qad_core.launch.peers import NodeEnd, Peers
from qad_core.launch.plan import LaunchPlan, make_plan
from qad_core.launch.requirements import require_trainer
from qad_core.launch.run_local import Ending, run_local
from qad_core.run.checkpoints import newest_checkpoint_step
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job, read_jobs
from qad_core.run.status import Status, read_status, write_status

WALLTIME_SLACK_SECONDS = 90.0
"""SLURM may signal up to 60 s early (man sbatch, --signal), and the launcher starts some time after the job."""


@dataclass(frozen=True)
class Link:
    """Which job of SLURM's this is; read from its environment."""

    submission: str
    """Token of the call of sbatch."""
    chain: str
    slurm_job_id: str
    restarts: int
    nodes: tuple[str, ...]

    @property
    def id(self) -> str:
        """Id of its record in jobs.jsonl."""
        return f"slurm-{self.submission}"

    @property
    def key(self) -> str:
        """Names this start's files: SLURM starts a job again under the same id."""
        return f"{self.slurm_job_id}.{self.restarts}"


def main(arguments: list[str]) -> int:
    """Run one node's part; the exit code. The only place of a job that catches errors outside of the ranks."""
    if len(arguments) != 1:
        print("usage: python -m qad_core.launch RUN_FOLDER", file=sys.stderr)
        return ExitCode.USER_ERROR
    folder = RunFolder(Path(arguments[0]).resolve())
    try:
        return run_node(folder, os.environ)
    except QadError as error:
        return _show(error)
    except OSError as error:
        return _show(explain_os_error(error))


def run_node(folder: RunFolder, environ: Mapping[str, str]) -> int:
    """Run this node's ranks and, on the first node, judge the chain before and after; the exit code."""
    link = read_link(environ)
    node_rank = int(environ.get("NODE_RANK") or environ.get("SLURM_NODEID") or "0")
    peers = Peers(folder.slurm, link.key, node_rank, max(len(link.nodes), 1))
    try:
        require_trainer()
        config = read_resolved(folder.config).config
        plan = make_plan(config, folder.path, environ)
        if node_rank > 0:
            ending = run_local(plan, None, peers=peers, each_poll=lambda: None)
        else:
            ending = _run_first_node(plan, link, peers, config)
    except Exception as error:  # of whatever kind: the other nodes wait for this one
        explained = _explain(error)
        if node_rank == 0:
            _fail_before_ranks(folder, link, peers, explained)
        else:
            peers.report(_node_end(node_rank, explained))
        raise
    _tell(ending, node_rank)
    return ending.exit_code


def read_link(environ: Mapping[str, str]) -> Link:
    """This job as SLURM's and the batch script's variables name it; raises ConfigError outside of such a job."""
    missing = [name for name in ("SLURM_JOB_ID", "QAD_SUBMISSION", "QAD_CHAIN") if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} is not set: this is no job that qad_core has submitted.",
            "Use `qad_core submit`, or `qad_core train` in a job of your own.",
        )
    return Link(
        submission=environ["QAD_SUBMISSION"],
        chain=environ["QAD_CHAIN"],
        slurm_job_id=environ["SLURM_JOB_ID"],
        restarts=int(environ.get("SLURM_RESTART_COUNT") or "0"),
        nodes=tuple(environ.get("QAD_NODES", "").split()),
    )


def _run_first_node(plan: LaunchPlan, link: Link, peers: Peers, config: RunConfig) -> Ending:
    folder, train_iterations = plan.run_folder, config.train.train_iterations
    (folder.slurm / f"{link.key}.started").touch()  # from here on it is for us to judge, not for the batch script
    jobs = read_jobs(folder.jobs)
    known = next((job for job in jobs if job.id == link.id), Job(id=link.id, kind="slurm"))
    at = newest_checkpoint_step(folder)
    earlier = [job for job in jobs if job.chain == link.chain and job.id != link.id]
    job = known.model_copy(update={"restarts": link.restarts})
    verdict = judge_start(job, earlier, now_at=at, done=is_done(read_status(folder.status), at, train_iterations))
    if not verdict.goes_on:
        return _refuse_start(folder, link, peers, verdict)
    start = _start_record(plan, link, known, at)
    note = partial(_note_signal, folder, start, config.cluster.slurm)
    ending = run_local(plan, None, job=start, peers=peers, on_signal=note, each_poll=lambda: None)
    peers.report(NodeEnd(node_rank=0, exit_code=ending.exit_code, time=time.time(), error=ending.error))
    peers.write_exit_code(ending.exit_code)
    status = read_status(folder.status)
    after = newest_checkpoint_step(folder)
    told = next((job.stopped_by for job in read_jobs(folder.jobs) if job.id == link.id), "")
    verdict = judge_end(
        ending.exit_code,
        before=start.checkpoint_before,
        after=after,
        reason=status.reason if status else "",
        stopped_by=told,
    )
    if not verdict.goes_on:
        stop_chain(folder, link.chain, verdict)
    return ending


def is_done(status: Status | None, checkpoint_step: int | None, train_iterations: int) -> bool:
    """Whether the run has come to its end: it says so, and the checkpoint of its last step is there."""
    return status is not None and status.phase == "done" and (checkpoint_step or 0) >= train_iterations


def stop_file(folder: RunFolder, chain: str) -> Path:
    """File whose being there stops a chain; holds the reason for people, the batch script cancels what is left."""
    return folder.slurm / f"{chain}.stop"


def stop_chain(folder: RunFolder, chain: str, verdict: Verdict) -> None:
    """Write down that the links left have nothing to do."""
    stop_file(folder, chain).write_text(f"{verdict.reason}\n", encoding="utf-8")


def _start_record(plan: LaunchPlan, link: Link, known: Job, at: int | None) -> Job:
    record = {
        "id": link.id,
        "kind": "slurm",
        "chain": link.chain,
        "slurm_job_id": link.slurm_job_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "argv": plan.argv,
        "started": time.time(),
        "ended": None,
        "exit_code": None,
        "restarts": link.restarts,
        "stopped_by": "",
        "nodes": link.nodes,
        "checkpoint_before": known.checkpoint_before if link.restarts and known.started else at,
    }
    return Job.model_validate(record)


def _note_signal(folder: RunFolder, job: Job, slurm: SlurmConfig, number: int) -> None:
    """Write down what told this link to stop, at the moment it did: it may be killed before it can save."""
    elapsed = time.time() - (job.started or 0.0)
    kept = slurm.stop_seconds_before_limit if number == signal.SIGUSR1 else 0
    walltime = elapsed >= slurm.time_limit_seconds - kept - WALLTIME_SLACK_SECONDS
    note = Job(id=job.id, kind="slurm", stopped_by="walltime" if walltime else "signal")
    append_job(folder.jobs, note)


def _refuse_start(folder: RunFolder, link: Link, peers: Peers, verdict: Verdict) -> Ending:
    """This link has nothing to do, nor have those after it; the run's own status stays as it is."""
    stop_chain(folder, link.chain, verdict)
    print(f"this link has nothing to do: {verdict.reason}", flush=True)
    now = time.time()
    job = Job(id=link.id, kind="slurm", slurm_job_id=link.slurm_job_id, ended=now, exit_code=verdict.exit_code)
    append_job(folder.jobs, job)
    peers.report(NodeEnd(node_rank=0, exit_code=verdict.exit_code, time=now, error=verdict.reason))
    peers.write_exit_code(verdict.exit_code)
    return Ending(verdict.exit_code, folder.jobs, verdict.reason)


def _fail_before_ranks(folder: RunFolder, link: Link, peers: Peers, error: QadError) -> None:
    """Say so to everyone; but of a run that another start is busy with, nothing is touched."""
    peers.report(_node_end(0, error))
    peers.write_exit_code(error.exit_code)
    now = time.time()
    append_job(folder.jobs, Job(id=link.id, kind="slurm", ended=now, exit_code=error.exit_code))
    if isinstance(error, BusyError):
        return
    before = read_status(folder.status) or Status(phase="starting")
    failed = {"phase": "failed", "updated": now, "error": error.message, "hint": error.hint}
    write_status(folder.status, before.model_copy(update={**failed, "exit_code": error.exit_code}))
    at = newest_checkpoint_step(folder)
    stop_chain(folder, link.chain, judge_end(error.exit_code, before=at, after=at, reason=""))


def _explain(error: Exception) -> QadError:
    """The error in words for the other nodes; what is not the user's or the system's is a bug of ours."""
    if isinstance(error, QadError):
        return error
    return explain_os_error(error) if isinstance(error, OSError) else BugError(f"{type(error).__name__}: {error}")


def _node_end(node_rank: int, error: QadError) -> NodeEnd:
    return NodeEnd(
        node_rank=node_rank, exit_code=error.exit_code, time=time.time(), error=error.message, hint=error.hint
    )


def _tell(ending: Ending, node_rank: int) -> None:
    if ending.error:
        print(f"error: {ending.error}\n  {ending.hint}".rstrip(), file=sys.stderr, flush=True)
    print(f"node {node_rank} ended with exit code {ending.exit_code}", flush=True)


def _show(error: QadError) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return int(error.exit_code)
