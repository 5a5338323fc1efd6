"""Commands that are given a run: cancel, status, logs, metrics, compare, dashboard, evaluate and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qad_core.cli_parts.arguments import AsJson, Roots, Run
from qad_core.run.chart_axes import XAxis


def cancel(
    run: Run,
    chain: Annotated[bool, typer.Option("--chain", help="Every job of the chain that is left.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for a save.")] = False,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a controller that is silent.")] = 300.0,
    root: Roots = None,
    as_json: AsJson = False,
) -> int:
    """End a run's job, or its process on this machine, which saves first; with --chain also the jobs that wait."""
    from qad_core.commands import cancel as command

    options = command.CancelOptions(chain=chain, now=now, patience_seconds=patience, as_json=as_json)
    return command.cancel(run, root or [], options)


def status(
    runs: Annotated[list[str] | None, typer.Argument(help="Run folders or names; all unless given.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Only when the named runs have ended; exit 0 if done, else with their code.")
    ] = False,
    root: Roots = None,
    as_json: AsJson = False,
) -> int:
    """Show what runs are doing."""
    from qad_core.commands import status as command

    return command.show_status(runs or [], root or [], wait=wait, as_json=as_json)


def logs(
    run: Run,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print what comes, until the run ends.")] = False,
    rank: Annotated[int, typer.Option(min=0, help="Whose log.")] = 0,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="What this SLURM job's script printed.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 40,
    search: Annotated[str | None, typer.Option(metavar="TEXT", help="Every line with it, or a regex.")] = None,
    first_error: Annotated[bool, typer.Option("--first-error", help="The lines from the first error on.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="Every log of the run.")] = False,
    root: Roots = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest log of a run, search one, or list all; --json with --list, --search and --first-error."""
    from qad_core.commands import log_search
    from qad_core.commands import logs as command

    if list_all:
        log_search.list_run_logs(run, root or [], as_json=as_json)
    elif search is not None:
        log_search.search_run_log(run, root or [], search, rank=rank, job=job, as_json=as_json)
    elif first_error:
        log_search.show_first_error(run, root or [], rank=rank, job=job, lines=lines, as_json=as_json)
    else:
        command.show_log(run, root or [], rank=rank, job=job, lines=lines, follow=follow)


def metrics(
    run: Run,
    plot: Annotated[str | None, typer.Option(metavar="KEY", help="Draw one metric, for example loss/kd.")] = None,
    root: Roots = None,
    as_json: AsJson = False,
) -> None:
    """Show a run's evaluations and newest steps, or draw a curve."""
    from qad_core.commands import metrics as command

    command.show_metrics(run, root or [], key=plot, as_json=as_json)


def compare(
    runs: Annotated[list[str], typer.Argument(help="Two or more run folders or names.")],
    csv: Annotated[Path | None, typer.Option(help="Write every metrics line of the runs there.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Write a chart of one metric there.")] = None,
    key: Annotated[str, typer.Option(help="The chart's metric.")] = "loss/kd",
    log_scale: Annotated[bool, typer.Option("--log-scale", help="Logarithmic values in the chart.")] = False,
    x_axis: Annotated[XAxis, typer.Option("--x", help="What lies below the chart.")] = "step",
    root: Roots = None,
    as_json: AsJson = False,
) -> None:
    """Show runs side by side: what differs in their configs, and what came of it."""
    from qad_core.commands import compare as command

    exports = command.Exports(csv, svg, key, log_scale, x_axis)
    command.compare_runs(runs, root or [], exports, as_json=as_json)


def dashboard(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN|FOLDER]...", help="Runs, or folders of runs; all unless given.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; the first free one from 6006 on unless given.")
    ] = None,
    root: Roots = None,
) -> int:
    """Show runs in TensorBoard, here, until Ctrl-C; prints the URL."""
    from qad_core.commands import dashboard as command

    return command.show_dashboard(runs or [], root or [], port=port)


def evaluate(run: Run, root: Roots = None, as_json: AsJson = False) -> int:
    """Evaluate a run's newest checkpoint on its held-out tokens."""
    from qad_core.commands import train as command

    return command.evaluate(run, root or [], as_json=as_json)


def export(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; it must not be there yet.")],
    step: Annotated[int | None, typer.Option(min=0, help="A checkpoint's step; the newest unless given.")] = None,
    root: Roots = None,
    as_json: AsJson = False,
) -> int:
    """Write a run's student as a Hugging Face NVFP4 folder for vLLM, and verify it."""
    from qad_core.commands import export as command

    return command.export(run, root or [], out, step=step, as_json=as_json)
