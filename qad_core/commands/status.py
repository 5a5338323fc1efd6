"""`qad_core status`: what every run is doing, and one run over all its links, with why it failed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from qad_core.commands.outlook import explain_failure, retry_command, view_runs
from qad_core.commands.output import console, error_console, make_table, print_json
from qad_core.commands.runs import find_run, run_as_json, run_roots
from qad_core.commands.waiting import exit_code_of, wait_for_end
from qad_core.config.problems import Problem
from qad_core.errors import ExitCode, RunError, explain_os_error
from qad_core.run.calibration import read_unseen, unseen_words
from qad_core.run.failure import Failure
from qad_core.run.health import Severity
from qad_core.run.log_files import log_files
from qad_core.run.run_paths import find_run_paths, resolve_run
from qad_core.run.show import count_of, show_duration, show_number, show_verdict, show_won_back
from qad_core.run.store import RunSummary, summarize_run
from qad_core.slurm.answers import SlurmAnswers
from qad_core.slurm.links import LinkView
from qad_core.slurm.views import RunView

STATE_STYLES = {
    "running": "green", "starting": "green", "done": "bold green", "queued": "cyan", "stopped": "yellow",
    "silent": "yellow", "unknown": "yellow", "blocked": "red", "failed": "red", "killed": "red",
}  # fmt: skip

HEALTH_STYLES: dict[Severity, str] = {"problem": "bold red", "warning": "yellow", "note": "dim"}


def show_status(names: Sequence[str], roots: Sequence[Path], *, wait: bool, as_json: bool) -> ExitCode:
    """Print the named runs in full, or a line for each below the roots; exit 2 when some of those cannot be read.

    With `wait`, print them when they have ended, and return how they did.
    """
    if wait and not names:
        raise RunError("--wait is given without a run.", "Name the runs to wait for.")
    if wait:
        views, answers = wait_for_end([resolve_run(name, run_roots(roots)) for name in names])
        _show(views, answers, [], roots, named=True, as_json=as_json)
        return exit_code_of(views)
    runs, problems = ([find_run(name, roots) for name in names], []) if names else _read_all(run_roots(roots))
    views, answers = view_runs(runs, endings=bool(names))
    _show(views, answers, problems, roots, named=bool(names), as_json=as_json)
    return ExitCode.USER_ERROR if problems else ExitCode.DONE


def _show(
    views: Sequence[RunView],
    answers: SlurmAnswers,
    problems: Sequence[Problem],
    roots: Sequence[Path],
    *,
    named: bool,
    as_json: bool,
) -> None:
    failures = {view.run.path: explain_failure(view) for view in views} if named else {}
    if as_json:
        print_json([_as_json(view, failures.get(view.run.path), answers) for view in views], problems)
        return
    if named:
        for view in views:
            print_run(view, failures[view.run.path])
    else:
        _print_runs(views, roots)
    for silence in answers.silences:
        error_console().print(f"not known: {silence}", markup=False)
    for problem in problems:
        error_console().print(str(problem), markup=False)


def print_run(view: RunView, failure: Failure | None) -> None:
    """One run over its links: state, progress, chain, logs, and the first cause of its failure."""
    run, out = view.run, console()
    out.print(Text(run.name, style="bold"), soft_wrap=True)
    table = make_table("", "")
    table.add_row("state", _state_cell(view))
    for name, text in _facts(view):
        table.add_row(name, text)
    out.print(table)
    if view.links:
        out.print(_links_table(view.links))
    for finding in run.health(time.time()):
        out.print(
            Text(f"{finding.severity}: {finding.sentence}", style=HEALTH_STYLES[finding.severity]), soft_wrap=True
        )
    for text in _advice(view):
        out.print(text, markup=False, soft_wrap=True)
    if failure is not None:
        print_failure(failure, run)


def print_failure(failure: Failure, run: RunSummary) -> None:
    """The failure card: what went wrong first, where, and the way on as commands to paste."""
    out = console()
    out.print()
    often = f" ({failure.times} starts in a row)" if failure.times > 1 else ""
    out.print(Text(f"{failure.title}{often}", style="bold red"))
    where = [f"rank {failure.rank}"] if failure.rank is not None else []
    where += [failure.where] if failure.where else []
    if failure.log is not None:
        where.append(f"{failure.log}{f' line {failure.line}' if failure.line else ''}")
    for text in (failure.message, "; ".join(where)):
        if text:
            out.print(f"  {text}", markup=False, soft_wrap=True)
    if failure.chain_stopped and failure.chain_stopped != failure.message:
        out.print(f"  the chain was stopped: {failure.chain_stopped}", markup=False, soft_wrap=True)
    if failure.others:
        out.print(f"  {count_of(failure.others, 'other rank')} failed after it")
    for line in failure.excerpt:
        out.print(f"  | {line}", markup=False, style="dim")
    for advice in failure.advice:
        out.print(f"- {advice}", markup=False, soft_wrap=True)
    if failure.changes:
        out.print(f"  {retry_command(run, failure.changes)}", markup=False, soft_wrap=True)


def _facts(view: RunView) -> list[tuple[str, str]]:
    run = view.run
    live = next((link for link in view.links if link.stage == "running"), None)
    facts = [("", view.outlook.words)] if view.outlook.words != view.outlook.state else []
    if view.stage is not None:
        facts.append(("stage", view.stage))
    facts.append(("step", f"{run.step} of {run.train_iterations or '?'}"))
    if run.loss is not None:
        facts.append(("loss", f"{show_number(run.loss)}, {show_number(run.tokens_per_s)} tokens/s"))
    if run.recovered is not None:
        since = f"{show_number(run.first_kl)} at step 0, {show_number(run.last_kl)} now"
        facts.append(("KL", f"{since}, {show_verdict(run.recovered)}"))
    elif run.first_kl is not None:
        facts.append(("KL", f"{show_number(run.first_kl)} at step 0"))
    if run.eta_seconds is not None:
        facts.append(("left", f"{show_duration(run.eta_seconds)} at this pace"))
    if live is not None:
        facts.append(("link", f"{live.job.link} of {live.job.links}, {show_duration(live.elapsed_seconds)} used, "
                              f"{show_duration(live.left_seconds)} to its walltime"))  # fmt: skip
    if run.status is not None and run.status.checkpoint_step is not None:
        facts.append(("checkpoint", f"step {run.status.checkpoint_step}"))
    if unseen := unseen_words(read_unseen(run.folder.calibration)):
        facts.append(("experts", unseen))
    facts.append(("folder", str(run.path)))
    logs = log_files(run.folder, rank=0)
    if logs:
        facts.append(("log", str(logs[-1])))
    batch_logs = [path for link in view.links for path in link.logs if path.is_file()]
    facts += [("job log", str(path)) for path in batch_logs[-2:]]
    return facts


def _links_table(links: Sequence[LinkView]) -> object:
    table = make_table(">link", ">job", "what", "started", ">used", ">left", "nodes", ">exit", "waits for")
    for link in links:
        started = time.strftime("%m-%d %H:%M:%S", time.localtime(link.started)) if link.started else "-"
        table.add_row(
            f"{link.job.link}/{link.job.links}",
            link.job.slurm_job_id or "?",
            f"{link.words}{f' (started {link.job.restarts + 1} times)' if link.job.restarts else ''}",
            started,
            show_duration(link.elapsed_seconds),
            show_duration(link.left_seconds),
            link.node_list or "-",
            "-" if link.exit_code is None else str(link.exit_code),
            link.waits_for or "-",
        )
    return table


def _advice(view: RunView) -> list[str]:
    texts = [view.outlook.what_to_do]
    texts += [f"job {link.job.slurm_job_id}: {link.what_to_do}" for link in view.links if link.what_to_do]
    return list(dict.fromkeys(text for text in texts if text))


def _read_all(roots: Sequence[Path]) -> tuple[list[RunSummary], list[Problem]]:
    """Every run that can be read, the latest changed first, and what is wrong with the others."""
    runs: list[RunSummary] = []
    problems: list[Problem] = []
    for path in find_run_paths(roots):
        try:
            runs.append(summarize_run(path))
        except OSError as error:
            explained = explain_os_error(error)
            problems.append(Problem(explained.message, path.name, explained.hint))
    return sorted(runs, key=lambda run: (-run.updated, run.name)), problems


def _print_runs(views: Sequence[RunView], roots: Sequence[Path]) -> None:
    if views:
        _print_table(views)
    else:
        places = ", ".join(str(root) for root in run_roots(roots))
        console().print(f"No runs in {places}. `qad_core train tiny` makes one in under a minute.", markup=False)


def _print_table(views: Sequence[RunView]) -> None:
    table = make_table(
        "run", "state", ">link", ">step", ">loss", ">KL at 0", ">KL now", ">won back", ">left", ">changed"
    )
    for view in views:
        run = view.run
        age = show_duration(max(time.time() - run.updated, 0)) + " ago" if run.updated else "-"
        table.add_row(
            run.name,
            _state_cell(view),
            _link_of(view),
            f"{run.step}/{run.train_iterations or '?'}",
            show_number(run.loss),
            show_number(run.first_kl),
            show_number(run.last_kl),
            show_won_back(run.recovered, brief=True),
            show_duration(run.eta_seconds),
            age,
        )
    out = console()
    out.print(table)
    for view in views:
        if view.outlook.state not in ("running", "done", "foreign"):
            out.print(f"{view.run.name}: {view.outlook.words}", markup=False)
            hint = view.outlook.what_to_do or (view.run.status.hint if view.run.status else "")
            if hint:
                out.print(f"  {hint}", markup=False)


def _state_cell(view: RunView) -> Text:
    return Text(view.outlook.state, style=STATE_STYLES.get(view.outlook.state, ""))


def _link_of(view: RunView) -> str:
    live = next((link for link in view.links if link.live), view.links[-1] if view.links else None)
    return "-" if live is None else f"{live.job.link}/{live.job.links}"


def _as_json(view: RunView, failure: Failure | None, answers: SlurmAnswers) -> dict[str, object]:
    links = [
        {
            **{key: value for key, value in dataclasses.asdict(link).items() if key != "job"},
            "link": link.job.link,
            "links": link.job.links,
            "job_id": link.job.slurm_job_id,
            "chain": link.job.chain,
            "restarts": link.job.restarts,
            "logs": link.logs,
            "dependency": link.dependency or link.job.dependency,
        }
        for link in view.links
    ]
    return {
        **run_as_json(view.run),
        "state": view.outlook.state,
        "words": view.outlook.words,
        "what_to_do": view.outlook.what_to_do,
        "stage": view.stage,
        "health": [dataclasses.asdict(finding) for finding in view.run.health(time.time())],
        "links": links,
        "unseen_experts": [layer.model_dump(mode="json") for layer in read_unseen(view.run.folder.calibration)],
        "not_known": answers.silences,
        "failure": None if failure is None else dataclasses.asdict(failure),
    }
