"""The command line: what can be asked, and how an error is shown. Each command's work is in `commands/`.

Commands import what they need when they are called, so that `qad_core --help` and a mistyped
command answer at once. Errors are caught in `main`, once: message and hint, exit code of the error,
no traceback; with --json they are JSON as well. Anything that is not a QadError is our own bug.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from qad_core import __version__
from qad_core.commands.streams import give_up_output, let_any_text_be_shown, refuse_other_text
from qad_core.errors import ExitCode, QadError, explain_os_error
from qad_core.run.chart_axes import XAxis

app = typer.Typer(
    name="qad_core",
    help="Recover the accuracy of NVFP4 language models by quantization-aware distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Datasets and their preparation into tokens.", no_args_is_help=True)
config_app = typer.Typer(help="Configs.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")
queue_app = typer.Typer(help="SLURM's queue: jobs, partitions, and changes to your own jobs.")
app.add_typer(queue_app, name="queue", invoke_without_command=True)

Experiment = Annotated[
    str, typer.Argument(help="A YAML file, the name of one in configs/experiments, or a .conf of the scripts.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="For example train.learning_rate=1e-5.")
]
Run = Annotated[str, typer.Argument(help="A run folder, or its name.")]
Roots = Annotated[
    list[Path] | None, typer.Option("--root", help="Folder of runs; QAD_CHECKPOINT_ROOT or ./runs unless given.")
]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB", help="Ids of your own jobs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
Tag = Annotated[str | None, typer.Option(help="Suffix of the run's name, to keep runs apart.")]
Out = Annotated[
    str, typer.Option(metavar="FILE", help="The YAML to write; a bare name is put into configs/experiments.")
]
Description = Annotated[str, typer.Option(help="First line of the file; what was changed unless given.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]


@app.callback(invoke_without_command=True)
def _options(  # pyright: ignore[reportUnusedFunction]
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def check(experiment: Experiment, overrides: Overrides = None, tag: Tag = None, as_json: AsJson = False) -> int:
    """Find every problem of an experiment at once, before anything starts."""
    from qad_core.commands import check as command

    return command.check(experiment, overrides or [], tag=tag, as_json=as_json)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def metrics(
    run: Run,
    plot: Annotated[str | None, typer.Option(metavar="KEY", help="Draw one metric, for example loss/kd.")] = None,
    root: Roots = None,
    as_json: AsJson = False,
) -> None:
    """Show a run's evaluations and newest steps, or draw a curve."""
    from qad_core.commands import metrics as command

    command.show_metrics(run, root or [], key=plot, as_json=as_json)


@app.command()
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


@app.command()
def evaluate(run: Run, root: Roots = None, as_json: AsJson = False) -> int:
    """Evaluate a run's newest checkpoint on its held-out tokens."""
    from qad_core.commands import train as command

    return command.evaluate(run, root or [], as_json=as_json)


@app.command()
def demo(
    overrides: Overrides = None,
    root: Annotated[Path, typer.Option(help="Folder of the demo's run and data.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option(help="Move an older demo aside and start over.")] = False,
) -> int:
    """Quantize a real model to NVFP4 and win its quality back, here, in a few minutes."""
    from qad_core.commands import demo as command

    return command.run_demo(root, overrides or [], fresh=fresh)


@app.command()
def doctor(as_json: AsJson = False) -> int:
    """Say what of this machine can be used, and what is missing."""
    from qad_core.commands import doctor as command

    return command.examine(as_json=as_json)


@app.command()
def system(root: Roots = None, as_json: AsJson = False) -> None:
    """Show this machine's processors, memory, GPUs and disks as they are now."""
    from qad_core.commands import system as command

    command.show_system(root or [], as_json=as_json)


@app.command("convert-conf")
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


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="A dataset of configs/datasets, or an experiment.")],
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Model of configs/models whose tokenizer is used.")] = None,
    source: Annotated[Path | None, typer.Option(help="File or folder of text or JSONL to read instead.")] = None,
) -> int:
    """Turn a dataset's text into tokens."""
    from qad_core.commands import data as command

    return command.prepare_data(name, overrides or [], model=model, source=source)


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """Show the datasets that configs can name."""
    from qad_core.commands import data as command

    command.list_data(as_json=as_json)


@config_app.command("show")
def config_show(
    experiment: Annotated[str, typer.Argument(help="An experiment, or a run folder or its name.")],
    overrides: Overrides = None,
    root: Roots = None,
) -> None:
    """Print an experiment's or a run's config as resolved, with where each value came from."""
    from qad_core.commands import check as command

    command.show_config(experiment, overrides or [], root or [])


@config_app.command("list")
def config_list(as_json: AsJson = False) -> None:
    """Show the experiments, models, datasets, layouts and clusters that can be named."""
    from qad_core.commands import config_list as command

    command.list_configs(as_json=as_json)


@config_app.command("save")
def config_save(
    experiment: Experiment,
    out: Out,
    overrides: Overrides = None,
    description: Description = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write an experiment with changes as an experiment of its own: parts by name, and the values over them."""
    from qad_core.commands import config_save as command

    command.save(experiment, overrides or [], command.SaveOptions(out, description, overwrite, as_json))


@config_app.command("clone")
def config_clone(
    run: Run,
    out: Out,
    changes: Overrides = None,
    description: Description = "",
    overwrite: Overwrite = False,
    root: Roots = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's config as an experiment, with changes and a tag that keeps the two runs apart."""
    from qad_core.commands import config_save as command

    command.clone(run, changes or [], root or [], command.SaveOptions(out, description, overwrite, as_json))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the only place that catches errors."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    let_any_text_be_shown()
    try:
        refuse_other_text(arguments)
        code = app(arguments, prog_name="qad_core", standalone_mode=False) or ExitCode.DONE
        sys.stdout.flush()  # an output that takes no more says so here, and not when the interpreter ends
        return code
    except QadError as error:
        return _show(error, as_json)
    except typer.TyperException as error:
        return _show(QadError(error.format_message(), "`qad_core COMMAND --help` lists what can be given."), as_json)
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does.
        give_up_output()
        return ExitCode.DONE
    except SystemExit as error:
        # rich and typer leave so when the reader has left.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        give_up_output()
        return ExitCode.DONE
    except OSError as error:
        return _show(explain_os_error(error), as_json)


def _show(error: QadError, as_json: bool) -> int:
    from qad_core.commands.output import error_console, print_json, problems_of

    try:
        if as_json:
            print_json(None, problems_of(error))
        sys.stdout.flush()
    except OSError:  # then it is the output itself that has failed, or has failed since
        give_up_output()
        as_json = False
    if not as_json:
        error_console().print(f"error: {error}", markup=False)
    return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
