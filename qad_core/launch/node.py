"""One node of a SLURM job: `python -m qad_core.launch RUN_FOLDER`, one task a node, started by srun.

Owns what the first node does before and after the ranks: whether this link of the chain has anything left to
do, what is written down of it, and the job's exit code for the batch script. The ranks are `run_local.py`'s.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from qad_core.config.load import read_resolved
from qad_core.config.schema import RunConfig, SlurmConfig
from qad_core.errors import BugError, BusyError, ExitCode, QadError, explain_os_error
from qad_core.launch.chain import Verdict, judge_end, judge_start
from qad_core.launch.link import Link, known_job, read_link, start_record
from qad_core.launch.peers import NodeEnd, Peers
from qad_core.launch.plan import LaunchPlan, make_plan
from qad_core.launch.ranks import Ending
from qad_core.launch.requirements import require_trainer
from qad_core.launch.run_local import run_local
from qad_core.run.checkpoints import newest_checkpoint_step
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job, read_jobs
from qad_core.run.status import Status, read_status, write_status

WALLTIME_SLACK_SECONDS = 90.0
"""SLURM may signal up to 60 s early (man sbatch, --signal), and the batch script starts some time after the job."""


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
    peers = Peers(folder.slurm, link.key, link.node_rank, link.nodes, link.arrival_seconds)
    peers.arrive()
    known = known_job(link, read_jobs(folder.jobs))
    try:
        require_trainer()
        config = read_resolved(folder.config).config
        plan = make_plan(config, folder.path, environ)
        if link.node_rank > 0:
            ending = run_local(plan, None, peers=peers, each_poll=lambda: None)
            peers.report(_node_end(link.node_rank, ending.exit_code, ending.error, ending.hint))
        else:
            ending = _run_first_node(plan, link, known, peers, config)
    except Exception as error:  # of whatever kind: the other nodes wait for this one
        explained = _explain(error)
        peers.report(_node_end(link.node_rank, explained.exit_code, explained.message, explained.hint))
        if link.node_rank == 0 or peers.is_overdue(0):
            _fail_before_ranks(folder, link, known, peers, explained)
        raise
    _tell(ending, link.node_rank)
    return ending.exit_code


def _run_first_node(plan: LaunchPlan, link: Link, known: Job, peers: Peers, config: RunConfig) -> Ending:
    folder = plan.run_folder
    start = start_record(link, known, plan.argv, newest_checkpoint_step(folder))
    verdict = _judge_start(folder, link, known, start, config.train.train_iterations)
    if not verdict.goes_on:
        return _refuse_start(folder, link, peers, verdict)
    note = partial(_note_signal, folder, link, config.cluster.slurm)
    ending = run_local(plan, None, job=start, peers=peers, on_signal=note, each_poll=lambda: None)
    peers.report(_node_end(0, ending.exit_code, ending.error, ending.hint))
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


def _judge_start(folder: RunFolder, link: Link, known: Job, start: Job, train_iterations: int) -> Verdict:
    at = start.checkpoint_at_start
    earlier = [job for job in read_jobs(folder.jobs) if job.chain == link.chain and job.id != link.id]
    job = known.model_copy(update={"starts_without_gain": start.starts_without_gain})
    stop = stop_file(folder, link.chain)
    stopped = stop.read_text(encoding="utf-8", errors="replace").strip() if stop.exists() else ""
    done = is_done(read_status(folder.status), at, train_iterations)
    return judge_start(job, earlier, now_at=at, done=done, stopped=stopped)


def is_done(status: Status | None, checkpoint_step: int | None, train_iterations: int) -> bool:
    """Whether the run has come to its end: it says so, and the checkpoint of its last step is there."""
    return status is not None and status.phase == "done" and (checkpoint_step or 0) >= train_iterations


def stop_file(folder: RunFolder, chain: str) -> Path:
    """File whose being there stops a chain; holds the reason for people, the batch script cancels what is left."""
    return folder.slurm / f"{chain}.stop"


def stop_chain(folder: RunFolder, chain: str, verdict: Verdict) -> None:
    """Write down that the links left have nothing to do."""
    stop_file(folder, chain).write_text(f"{verdict.reason}\n", encoding="utf-8")


def is_walltime(slurm: SlurmConfig, number: int, elapsed_seconds: float) -> bool:
    """Whether a signal so long after the job's start is that of its walltime."""
    kept = slurm.stop_seconds_before_limit if number == signal.SIGUSR1 else 0
    return elapsed_seconds >= slurm.time_limit_seconds - kept - WALLTIME_SLACK_SECONDS


def _note_signal(folder: RunFolder, link: Link, slurm: SlurmConfig, number: int) -> None:
    """Write down what told this link to stop, at the moment it did: it may be killed before it can save."""
    walltime = is_walltime(slurm, number, time.time() - link.job_start)
    append_job(folder.jobs, Job(id=link.id, kind="slurm", stopped_by="walltime" if walltime else "signal"))


def _refuse_start(folder: RunFolder, link: Link, peers: Peers, verdict: Verdict) -> Ending:
    """This link has nothing to do, nor have those after it; the run's own status stays as it is."""
    stop_chain(folder, link.chain, verdict)
    print(f"this link has nothing to do: {verdict.reason}", flush=True)
    now = time.time()
    job = Job(id=link.id, kind="slurm", slurm_job_id=link.slurm_job_id, ended=now, exit_code=verdict.exit_code)
    append_job(folder.jobs, job)
    peers.report(_node_end(0, verdict.exit_code, verdict.reason))
    peers.write_exit_code(verdict.exit_code)
    return Ending(verdict.exit_code, folder.jobs, verdict.reason)


def _fail_before_ranks(folder: RunFolder, link: Link, known: Job, peers: Peers, error: QadError) -> None:
    """Say so to everyone; but of a run that another start is busy with, nothing is touched."""
    peers.write_exit_code(error.exit_code)
    now, at = time.time(), newest_checkpoint_step(folder)
    start = start_record(link, known, known.argv, at)
    append_job(folder.jobs, start.model_copy(update={"ended": now, "exit_code": error.exit_code}))
    if isinstance(error, BusyError):
        return
    before = read_status(folder.status) or Status(phase="starting")
    failed = {"phase": "failed", "updated": now, "error": error.message, "hint": error.hint}
    write_status(folder.status, before.model_copy(update={**failed, "exit_code": error.exit_code}))
    verdict = judge_end(error.exit_code, before=at, after=at, reason="")
    if not verdict.goes_on:
        stop_chain(folder, link.chain, verdict)


def _explain(error: Exception) -> QadError:
    """The error in words for the other nodes; what is not the user's or the system's is a bug of ours."""
    if isinstance(error, QadError):
        return error
    return explain_os_error(error) if isinstance(error, OSError) else BugError(f"{type(error).__name__}: {error}")


def _node_end(node_rank: int, exit_code: int, error: str = "", hint: str = "") -> NodeEnd:
    return NodeEnd(node_rank=node_rank, exit_code=exit_code, time=time.time(), error=error, hint=hint)


def _tell(ending: Ending, node_rank: int) -> None:
    if ending.error:
        print(f"error: {ending.error}\n  {ending.hint}".rstrip(), file=sys.stderr, flush=True)
    print(f"node {node_rank} ended with exit code {ending.exit_code}", flush=True)


def _show(error: QadError) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return int(error.exit_code)
