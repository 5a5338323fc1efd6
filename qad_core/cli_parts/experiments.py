"""Commands that are given an experiment: check, train, submit, demo and convert-conf."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qad_core.cli_parts.arguments import AsJson, Experiment, Overrides, Roots, Tag


def check(
    experiment: Experiment,
    overrides: Overrides = None,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse",
            help="Then run all its ranks on this machine's CPU with a shrunken model: two steps, a save, a resume.",
        ),
    ] = False,
    tag: Tag = None,
    as_json: AsJson = False,
) -> int:
    """Find every problem of an experiment at once, before anything starts."""
    from qad_core.commands import check as command

    return command.check(experiment, overrides or [], tag=tag, rehearse=rehearse, as_json=as_json)


def train(
    experiment: Experiment,
    overrides: Overrides = None,
    tag: Tag = None,
    fresh: Annotated[bool, typer.Option(help="Move an older run aside and start over.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the config and the commands; start nothing.")] = False,
) -> int:
    """Run an experiment here, in the foreground; a stopped one goes on by itself."""
    from qad_core.commands import train as command

    return command.train(experiment, overrides or [], tag=tag, fresh=fresh, dry_run=dry_run)


def submit(
    experiment: Annotated[str, typer.Argument(help="An experiment, or a run to give more links.")],
    overrides: Overrides = None,
    links: Annotated[int | None, typer.Option(min=1, help="Jobs of the chain, each going on from the last.")] = None,
    until_done: Annotated[bool, typer.Option("--until-done", help="As many links as the run's pace asks for.")] = False,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="DEPENDENCY",
            help="Start after others: afterok:JOB, afterany:JOB, afternotok:JOB, after:JOB or singleton. JOB is a job "
            "id or a run; afterok:RUN starts once RUN is done, whichever of its links that takes.",
        ),
    ] = None,
    tag: Tag = None,
    fresh: Annotated[bool, typer.Option(help="Move an older run aside and start over.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the exact script and calls; submit nothing.")] = False,
    seconds_per_iteration: Annotated[
        float | None, typer.Option(min=0.001, help="Pace to plan with while none has been measured.")
    ] = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a controller that is silent.")] = 300.0,
    root: Roots = None,
    as_json: AsJson = False,
) -> int:
    """Put a run into SLURM's queue, as a chain of jobs that each go on from the last checkpoint."""
    from qad_core.commands import submit as command

    options = command.SubmitOptions(
        links=links,
        until_done=until_done,
        after=after,
        seconds_per_iteration=seconds_per_iteration,
        patience_seconds=patience,
        tag=tag,
        fresh=fresh,
        dry_run=dry_run,
        as_json=as_json,
    )
    return command.submit(experiment, overrides or [], root or [], options)


def demo(
    overrides: Overrides = None,
    root: Annotated[Path, typer.Option(help="Folder of the demo's run and data.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option(help="Move an older demo aside and start over.")] = False,
) -> int:
    """Quantize a real model to NVFP4 and win its quality back, here, in a few minutes."""
    from qad_core.commands import demo as command

    return command.run_demo(root, overrides or [], fresh=fresh)


def convert_conf(
    conf: Annotated[str, typer.Argument(metavar="FILE.conf", help="A bash config of the scripts; it is not run.")],
    out: Annotated[
        Path | None, typer.Option(help="The YAML to write; the conf's name in the working directory unless given.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Turn an old .conf into an experiment, and list what it could not carry over."""
    from qad_core.commands import convert_conf as command

    return command.convert_conf(conf, out, as_json=as_json)
