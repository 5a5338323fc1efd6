"""Commands about the machines: doctor, system, and the group `queue`."""

from __future__ import annotations

from typing import Annotated

import typer

from qad_core.cli_parts.arguments import AsJson, JobIds, Roots

queue_app = typer.Typer(help="SLURM's queue: jobs, partitions, and changes to your own jobs.")


def doctor(as_json: AsJson = False) -> int:
    """Say what of this machine can be used, and what is missing."""
    from qad_core.commands import doctor as command

    return command.examine(as_json=as_json)


def system(root: Roots = None, as_json: AsJson = False) -> None:
    """Show this machine's processors, memory, GPUs and disks as they are now."""
    from qad_core.commands import system as command

    command.show_system(root or [], as_json=as_json)


@queue_app.callback(invoke_without_command=True)
def queue(
    context: typer.Context,
    everyone: Annotated[bool, typer.Option("--all", help="Everyone's jobs, and not only yours.")] = False,
    root: Roots = None,
    as_json: AsJson = False,
) -> None:
    """Show the jobs in SLURM's queue and what is free; or change jobs of yours."""
    if context.invoked_subcommand is not None:
        return
    from qad_core.commands import queue as command

    command.show_queue(root or [], everyone=everyone, as_json=as_json)


@queue_app.command("cancel")
def queue_cancel(
    jobs: JobIds,
    now: Annotated[bool, typer.Option("--now", help="Do not let a run's link save first.")] = False,
    as_json: AsJson = False,
) -> int:
    """End these jobs alone; a run's link saves first. `qad_core cancel RUN --chain` ends a whole chain."""
    from qad_core.commands import queue as command

    return command.change_jobs("cancel", jobs, now=now, as_json=as_json)


@queue_app.command("hold")
def queue_hold(jobs: JobIds, as_json: AsJson = False) -> int:
    """Keep waiting jobs from starting."""
    from qad_core.commands import queue as command

    return command.change_jobs("hold", jobs, now=False, as_json=as_json)


@queue_app.command("release")
def queue_release(jobs: JobIds, as_json: AsJson = False) -> int:
    """Let held jobs start."""
    from qad_core.commands import queue as command

    return command.change_jobs("release", jobs, now=False, as_json=as_json)


@queue_app.command("requeue")
def queue_requeue(jobs: JobIds, as_json: AsJson = False) -> int:
    """End running jobs and put them back into the queue."""
    from qad_core.commands import queue as command

    return command.change_jobs("requeue", jobs, now=False, as_json=as_json)
