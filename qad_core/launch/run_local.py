"""Acts on a launch plan on this machine: writes the run folder, makes the tokens, runs the ranks.

Owns the order of these steps and who hears of them. What to do is decided in `plan.py`, what further machines
add to it is in `machines.py`, and the run's own numbers come from the trainer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

from qad_core.config.load import ResolvedConfig, dump_resolved
from qad_core.errors import ExitCode, OutsideError, explain_os_error
from qad_core.launch.lock import locked_folder
from qad_core.launch.machines import end_with_others, in_step_with, join_first_machine, open_meeting
from qad_core.launch.peers import NodeEnd, Peers
from qad_core.launch.plan import LaunchPlan
from qad_core.launch.processes import ProcessGroup, ProcessPlan, Starter, caught_signals, start_processes, wait_for
from qad_core.launch.ranks import Ending, failure_words, output_path, output_tail, printed_error, rank_processes
from qad_core.run.folder import RunFolder
from qad_core.run.identity import write_identity
from qad_core.run.jobs import Job, append_job, local_job
from qad_core.run.status import ENDED, Phase, Status, read_status, write_status

LOCK_SECONDS = 300.0
"""In a job the folder may be taken by ranks of the link before it that are still dying; on a node that was lost a
shared file system may hold the lock some minutes longer."""


def run_local(
    plan: LaunchPlan,
    resolved: ResolvedConfig | None,
    *,
    fresh: bool = False,
    job: Job | None = None,
    peers: Peers | None = None,
    on_signal: Callable[[int], None] = lambda number: None,
    start_ranks: Starter = start_processes,
    each_poll: Callable[[], None],
) -> Ending:
    """Run the plan to its end and return how it ended; `each_poll` is called ten times a second.

    Without `resolved` the run keeps the config and identity that are in its folder. `fresh` moves an
    old run of the folder aside first. `job` is what the start is written down as, a local one unless
    given; `peers` tells the launchers of the other machines of a failure here, and this one of theirs;
    `on_signal` hears of each signal at once, before it is passed on; `start_ranks` is another way to start
    the ranks' processes.
    Raises RunError when the folder is another start's or cannot be written to, or the port is taken,
    and OutsideError when the other machines' meeting point does not open or the disk is full. In a job
    (with `peers`) it waits some minutes for the folder, and a taken folder or port is an OutsideError's exit code.
    """
    if plan.rendezvous.node_rank > 0:
        return join_first_machine(plan, peers, each_poll)
    if fresh:
        set_aside(plan.run_folder)
    patience = 0.0 if peers is None else LOCK_SECONDS
    with (
        caught_signals(on_signal) as received,
        locked_folder(plan.run_folder, patience_seconds=patience, give_up=lambda: bool(received)) as lock,
        disk_errors(plan.run_folder),
    ):
        port = open_meeting(plan, peers)
        if resolved is not None:
            write_folder(plan.run_folder, resolved)
        job = job or local_job(plan.argv, pid=os.getpid(), started=time.time())
        append_job(plan.run_folder.jobs, job)
        ending = _run_phases(plan, port, lock, received, peers, start_ranks, each_poll)
        end = Job(id=job.id, kind=job.kind, ended=time.time(), exit_code=ending.exit_code)
        append_job(plan.run_folder.jobs, end)
    return ending


def set_aside(folder: RunFolder) -> Path | None:
    """Move a run that is not running to `NAME.old-TIME` beside it; nothing is ever deleted. Its new place."""
    if not folder.path.exists():
        return None
    with locked_folder(folder):
        aside = folder.path.with_name(f"{folder.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
        return folder.path.rename(aside)


@contextlib.contextmanager
def disk_errors(folder: RunFolder) -> Generator[None]:
    """Turn what the system refuses into a QadError; a full, broken or read-only disk is named as the run folder's."""
    try:
        yield
    except OSError as error:
        explained = explain_os_error(error)
        if not isinstance(explained, OutsideError):
            raise explained from error
        raise OutsideError(
            f"The run folder {folder.path} cannot be written to: {error.strerror}.",
            "Free some space on its disk and start again: it goes on from the newest checkpoint.",
        ) from error


def _run_phases(
    plan: LaunchPlan,
    port: int,
    lock: int,
    received: list[int],
    peers: Peers | None,
    start_ranks: Starter,
    each_poll: Callable[[], None],
) -> Ending:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    _say(plan.run_folder, "starting")
    if plan.prepare is not None:
        _say(plan.run_folder, "data")
        output = plan.run_folder.logs / f"prepare_{stamp}.out"
        group = start_processes([ProcessPlan(plan.prepare, dict(os.environ), output)], keep_open=[lock])
        code = wait_for(group, received, each_poll, partial(end_with_others, peers))
        cause = peers.settle() if peers else None
        if cause is not None:
            return _failed_elsewhere(plan.run_folder, cause, output)
        if code != ExitCode.DONE:
            return _prepare_ended(plan.run_folder, group, code, output)
    group = start_ranks(rank_processes(plan, port, stamp), keep_open=[lock])
    code = wait_for(group, received, each_poll, in_step_with(peers, plan, stamp))
    cause = peers.settle() if peers else None
    if cause is not None and cause.node_rank > 0:
        return _failed_elsewhere(plan.run_folder, cause, output_path(plan.run_folder, stamp, 0))
    return _ranks_ended(plan, group, code, stamp)


def write_folder(folder: RunFolder, resolved: ResolvedConfig) -> None:
    """Write the folder, the config and the identity of a run that is about to start or to be submitted."""
    name = resolved.config.model.name
    for path in (folder.logs, folder.checkpoints(name), folder.tensorboard(name)):
        path.mkdir(parents=True, exist_ok=True)  # what stands in the way is found now, not at the first save
    folder.config.write_text(dump_resolved(resolved), encoding="utf-8")
    write_identity(folder, resolved.config)


def _ranks_ended(plan: LaunchPlan, group: ProcessGroup, code: int, stamp: str) -> Ending:
    """Complete the status where the trainer could not write its own end."""
    folder = plan.run_folder
    if group.first_failure is None:
        return Ending(code, output_path(folder, stamp, 0))
    output = output_path(folder, stamp, group.first_failure[0])
    if group.died_of_sent_signal():
        return _stopped(folder, group, output)
    error, hint = failure_words(plan, group.first_failure, output)
    status = read_status(folder.status)
    died_of_signal = group.first_failure[1] < 0  # then what others have said is what came of it
    if status is not None and status.phase == "failed" and not died_of_signal:
        return Ending(code, output, status.error or error, status.hint)
    _say(folder, "failed", error=error, hint=hint, exit_code=code)
    return Ending(code, output, error, hint)


def _prepare_ended(folder: RunFolder, group: ProcessGroup, code: int, output: Path) -> Ending:
    if group.died_of_sent_signal():
        return _stopped(folder, group, output)
    error, hint = printed_error(output_tail(output)) or ("the tokens could not be prepared", "Its output says why.")
    _say(folder, "failed", error=error, hint=hint, exit_code=code)
    return Ending(code, output, error, hint)


def _stopped(folder: RunFolder, group: ProcessGroup, output: Path) -> Ending:
    """A signal came before the process could heed it; nothing new was done, so nothing is lost."""
    _say(folder, "stopped", reason=group.died_of_sent_signal(), exit_code=ExitCode.STOPPED_EARLY)
    return Ending(ExitCode.STOPPED_EARLY, output)


def _say(folder: RunFolder, phase: Phase, **ending: str | int) -> None:
    """Write the launcher's own word into status.json: before the trainer has one, or after it has died."""
    now = time.time()
    before = read_status(folder.status) or Status(phase=phase)
    said = Status(
        phase=phase,
        step=before.step,
        train_iterations=before.train_iterations,
        checkpoint_step=before.checkpoint_step,
        started=before.started if phase in ENDED else now,
        updated=now,
        pid=os.getpid(),
        host=socket.gethostname(),
    )
    write_status(folder.status, said.model_copy(update=ending))


def _failed_elsewhere(folder: RunFolder, cause: NodeEnd, output: Path) -> Ending:
    """Another node's rank failed first; its trainer may have said so, and if it was killed it has not."""
    status = read_status(folder.status)
    if status is None or status.phase != "failed" or cause.killed:
        _say(folder, "failed", error=cause.error, hint=cause.hint, exit_code=cause.exit_code)
    return Ending(cause.exit_code, output, cause.error, cause.hint)
