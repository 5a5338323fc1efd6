"""`qad_core train` and `qad_core evaluate`: a run here, in the foreground."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qad_core.commands.experiment import run_folder_of, with_tag
from qad_core.commands.output import console, error_console, print_json, print_notes, print_problems
from qad_core.commands.runs import find_run
from qad_core.config.checks import check_experiment
from qad_core.config.load import ResolvedConfig, dump_resolved, read_resolved
from qad_core.config.problems import Problem
from qad_core.errors import ExitCode, RunError
from qad_core.launch.plan import LaunchPlan, make_plan
from qad_core.launch.plan_words import describe_commands
from qad_core.launch.ranks import Ending, output_tail
from qad_core.launch.requirements import require_trainer
from qad_core.launch.run_local import run_local
from qad_core.launch.watch import Watch, evaluation_words
from qad_core.run.show import show_number, show_verdict
from qad_core.run.status import read_status, write_status
from qad_core.run.store import RunSummary, summarize_run


def train(experiment: str, overrides: Sequence[str], *, tag: str | None, fresh: bool, dry_run: bool) -> int:
    """Check everything, then run to the end, the stop or the failure; the training's own exit code.

    Nothing is started when there is a problem. A run that was stopped goes on by itself.
    """
    resolved, problems = check_experiment(experiment, with_tag(overrides, tag), fresh=fresh)
    print_notes(resolved.notes if resolved else ())
    if problems or resolved is None:
        print_problems(problems)
        return ExitCode.USER_ERROR
    plan = make_plan(resolved.config, run_folder_of(resolved.config).path, os.environ)
    if dry_run:
        print(describe_plan(plan, resolved), end="")
        return ExitCode.DONE
    return run_in_foreground(plan, resolved, fresh=fresh)


def run_in_foreground(plan: LaunchPlan, resolved: ResolvedConfig | None, *, fresh: bool = False) -> int:
    """Run a plan and show its progress and its end; the exit code."""
    require_trainer()
    out = console()
    out.print(f"run folder: {plan.run_folder.path}", markup=False, soft_wrap=True)
    with Watch(plan.run_folder, out) as watch:
        ending = run_local(plan, resolved, fresh=fresh, each_poll=watch.look)
    if ending.exit_code in (ExitCode.DONE, ExitCode.STOPPED_EARLY):
        out.print(_ending_words(summarize_run(plan.run_folder.path)), markup=False)
    else:
        _show_failure(ending)
    return ending.exit_code


def evaluate(run: str, roots: Sequence[Path], *, as_json: bool) -> int:
    """Evaluate a run's newest checkpoint on the held-out tokens; the exit code.

    Raises RunError for a run without a config of ours.
    """
    folder = find_run(run, roots).folder
    if not folder.config.is_file():
        raise RunError(f"The run {folder.name} has no config.yaml.", "Only runs that this program has made can be.")
    plan = make_plan(read_resolved(folder.config).config, folder.path.absolute(), os.environ, evaluate_only=True)
    require_trainer()
    status = read_status(folder.status)
    ending = run_local(plan, None, each_poll=lambda: None)
    if ending.exit_code != ExitCode.DONE:
        if as_json:
            print_json(None, [Problem(ending.error, str(ending.output), ending.hint)])
        else:
            _show_failure(ending)
        return ending.exit_code
    if status is not None:
        write_status(folder.status, status)  # how the training stands has not changed
    newest = summarize_run(folder.path).evaluations[-1]
    if as_json:
        print_json(newest)
    else:
        console().print(evaluation_words(newest))
    return ending.exit_code


def describe_plan(plan: LaunchPlan, resolved: ResolvedConfig) -> str:
    """What a start would do: the config that it would write, and its commands, as text."""
    return f"{dump_resolved(resolved)}\n{describe_commands(plan)}"


def _ending_words(run: RunSummary) -> str:
    if run.recovered is None:
        return run.words
    won = f"KL {show_number(run.first_kl)} -> {show_number(run.last_kl)}, {show_verdict(run.recovered)}"
    return f"{run.words}: {won}"


def _show_failure(ending: Ending) -> None:
    out = error_console()
    out.print(f"error: {ending.error}", markup=False)
    if ending.hint:
        out.print(f"  {ending.hint}", markup=False)
    if ending.exit_code == ExitCode.BUG and ending.output.exists():
        out.print(output_tail(ending.output), markup=False)
    out.print(f"  All that it printed: {ending.output}", markup=False)
