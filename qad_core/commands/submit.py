"""`qad_core submit`: an experiment, or more links of a run, into SLURM's queue."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.experiment import run_folder_of, with_tag
from qad_core.commands.output import console, error_console, print_json, print_notes, show_problems
from qad_core.commands.runs import find_run, run_roots
from qad_core.config.checks import check_experiment
from qad_core.config.load import ResolvedConfig
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.errors import ConfigError, ExitCode, RunError
from qad_core.launch.chain import SPARE_LINKS, ChainEstimate, estimate_chain
from qad_core.launch.dependency import check_dependency, parse_after
from qad_core.launch.node import is_done
from qad_core.launch.sbatch import BatchJob, make_script
from qad_core.launch.submission import Submission, describe_calls, make_links, new_chain_token
from qad_core.launch.submit import PATIENCE_SECONDS, Submitter, secrets_in_script
from qad_core.run.checkpoints import newest_checkpoint_step
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, read_jobs
from qad_core.run.pace import measure_pace
from qad_core.run.show import show_duration
from qad_core.run.status import read_status
from qad_core.run.store import is_run_folder
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmUnavailable
from qad_core.slurm.jobs import never_starts, reason_words, state_words, what_to_do


@dataclass(frozen=True)
class SubmitOptions:
    """What was asked for on the command line."""

    links: int | None = None
    """Links of the chain; one unless given."""
    until_done: bool = False
    """As many links as the estimate asks for, and a spare one."""
    after: str | None = None
    """What the first link waits for."""
    seconds_per_iteration: float | None = None
    """Pace to plan with, where none has been measured."""
    patience_seconds: float = PATIENCE_SECONDS
    """How long to wait for a controller that does not answer."""
    tag: str | None = None
    fresh: bool = False
    dry_run: bool = False
    as_json: bool = False


def submit(experiment: str, overrides: Sequence[str], roots: Sequence[Path], options: SubmitOptions) -> int:
    """Check everything, say what will be submitted, and submit it; the exit code."""
    name = _config_of_run(experiment, roots) or experiment
    resolved, problems = check_experiment(name, with_tag(overrides, options.tag), fresh=options.fresh)
    problems = [*problems, *_problems_of_kind(resolved)]
    if problems or resolved is None:
        return show_problems(problems, as_json=options.as_json)
    print_notes(resolved.notes)
    folder = run_folder_of(resolved.config)
    if not options.fresh:
        _refuse_when_done(folder, resolved.config)
    client = SlurmClient()
    estimate = _estimate(folder, resolved.config, options)
    submission = _plan(resolved, folder, client, roots, options, estimate)
    if not options.as_json:
        _print_plan(submission, estimate)
    if options.dry_run:
        _print_dry_run(submission, estimate, as_json=options.as_json)
        return ExitCode.DONE
    submitter = Submitter(client, _say, options.patience_seconds)
    refusal = submitter.find_refusal(resolved.config, Path.cwd())
    if refusal is not None:
        return show_problems([refusal], as_json=options.as_json)
    jobs = submitter.submit(submission, fresh=options.fresh)
    _report(client, submission, estimate, jobs, as_json=options.as_json)
    return ExitCode.DONE


def _say(text: str) -> None:
    """What happens meanwhile, on stderr."""
    error_console().print(text, markup=False)


def _config_of_run(experiment: str, roots: Sequence[Path]) -> str | None:
    """The resolved config of a run, where the argument is a run's folder or name and no experiment's."""
    places = [Path(experiment), *(root / experiment for root in run_roots(roots))]
    found = next((path for path in places if path.is_dir() and is_run_folder(path)), None)
    return str(RunFolder(found).config) if found is not None else None


def _problems_of_kind(resolved: ResolvedConfig | None) -> list[Problem]:
    if resolved is None or resolved.config.cluster.kind == "slurm":
        return []
    what = f"the cluster {resolved.config.cluster.name} is of kind local: it has no queue"
    return [Problem(what, "cluster.kind", "Name a SLURM cluster (cluster=NAME of configs/clusters), or use train.")]


def _refuse_when_done(folder: RunFolder, config: RunConfig) -> None:
    if is_done(read_status(folder.status), newest_checkpoint_step(folder), config.train.train_iterations):
        raise RunError(f"The run {folder.name} is done.", "Start over with --fresh, or keep runs apart with --tag.")


def _estimate(folder: RunFolder, config: RunConfig, options: SubmitOptions) -> ChainEstimate | None:
    """Links needed by the run's own pace or the one told; None where there is neither, or no time to train in.

    Raises ConfigError in place of None for --until-done.
    """
    pace = None if options.fresh else measure_pace(folder)
    seconds = options.seconds_per_iteration or (pace.seconds_per_iteration if pace else None)
    if seconds is None:
        if options.until_done:
            hint = "Name the pace with --seconds-per-iteration, or submit one link (--links 1) to measure it first."
            raise ConfigError("--until-done needs the seconds an iteration, and this run has none yet.", hint)
        return None
    slurm = config.cluster.slurm
    at = 0 if options.fresh else newest_checkpoint_step(folder) or 0
    estimate = estimate_chain(
        max(config.train.train_iterations - at, 0),
        seconds,
        time_limit_seconds=slurm.time_limit_seconds,
        stop_seconds_before_limit=slurm.stop_seconds_before_limit,
        start_seconds=pace.start_seconds if pace else None,
    )
    if estimate is None and options.until_done:
        raise ConfigError(
            f"A walltime of {slurm.time_limit} leaves no time to train: {slurm.stop_seconds_before_limit} s are kept "
            f"to save in, and a start takes {show_duration(pace.start_seconds if pace else None)}.",
            "Take a longer cluster.slurm.time_limit, or a smaller cluster.slurm.stop_seconds_before_limit.",
        )
    return estimate


def _plan(
    resolved: ResolvedConfig,
    folder: RunFolder,
    client: SlurmClient,
    roots: Sequence[Path],
    options: SubmitOptions,
    estimate: ChainEstimate | None,
) -> Submission:
    if options.links is not None and options.until_done:
        raise ConfigError("--links and --until-done are both given", "Give one of them.")
    count = options.links or 1
    if options.until_done and estimate is not None:
        count = estimate.links + SPARE_LINKS
    after = None
    if options.after is not None:
        after = parse_after(options.after, lambda run: _last_job_of(run, roots))
        check_dependency(client, after)
    chain = new_chain_token()
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    batch = BatchJob(folder, chain, stamp, Path.cwd())
    script = make_script(resolved.config, batch)
    leaked = secrets_in_script(script, resolved.config.cluster.slurm.secrets)
    if leaked:
        raise ConfigError(
            f"The value of {', '.join(leaked)} stands in the batch script, which SLURM shows and keeps.",
            "Take it out of the config: a job gets the environment of the shell that submits.",
        )
    return Submission(resolved, batch, script, make_links(count, chain, after))


def _last_job_of(run: str, roots: Sequence[Path]) -> str:
    folder = find_run(run, roots).folder
    jobs = [job.slurm_job_id for job in read_jobs(folder.jobs) if job.slurm_job_id]
    if not jobs:
        raise RunError(f"The run {folder.name} has no SLURM job to wait for.", "Submit it first, or name a job id.")
    return jobs[-1]


def _print_plan(submission: Submission, estimate: ChainEstimate | None) -> None:
    config, out = submission.resolved.config, console()
    count, limit = len(submission.links), config.cluster.slurm.time_limit
    out.print(f"run folder: {submission.batch.folder.path}", markup=False, soft_wrap=True)
    out.print(f"{count} link{'s' if count > 1 else ''} of {limit} on {config.cluster.nodes} node(s), "
              f"{config.cluster.gpus_per_node} GPU(s) each", markup=False)  # fmt: skip
    out.print(estimate_words(estimate, count), markup=False)
    names = [name for name in config.cluster.slurm.secrets if os.environ.get(name)]
    if names:
        out.print(f"in the job's environment, and nowhere else: {', '.join(names)}", markup=False)


def estimate_words(estimate: ChainEstimate | None, links: int) -> str:
    """What a chain has to do, beside what is submitted."""
    if estimate is None:
        return "how many links it needs is not known: no step of this run has been timed yet"
    text = (
        f"{estimate.iterations_left} iterations left x {estimate.seconds_per_iteration:.3g} s = "
        f"{show_duration(estimate.hours * 3600)}; a link trains for {show_duration(estimate.link_seconds)}: "
        f"{estimate.links} link{'s' if estimate.links > 1 else ''} needed"
    )
    if links < estimate.links:
        return f"{text}, {links} submitted: it will not be done after them"
    return f"{text}, {links - estimate.links} spare" if links > estimate.links else text


def _print_dry_run(submission: Submission, estimate: ChainEstimate | None, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(submission, estimate, []))
        return
    print(f"\n# {submission.batch.script}\n{submission.script}\n# and then\n{describe_calls(submission)}")


def _report(
    client: SlurmClient, submission: Submission, estimate: ChainEstimate | None, jobs: Sequence[Job], *, as_json: bool
) -> None:
    try:
        entries = {entry.job_id: entry for entry in client.queue([job.slurm_job_id for job in jobs])}
    except SlurmUnavailable:
        entries = {}  # the jobs are submitted all the same
    warnings: list[Problem] = []
    for job in jobs:
        entry = entries.get(job.slurm_job_id)
        words = "submitted" if entry is None else state_words(entry.state)
        if entry is not None and entry.state == "PENDING":
            words = f"waits: {reason_words(entry.reason, dependency=entry.dependency)}"
            if never_starts(entry.reason):
                what = f"job {job.slurm_job_id} was accepted, but can never start: {entry.reason}"
                warnings.append(Problem(what, f"link {job.link}", what_to_do(entry.reason)))
        if not as_json:
            console().print(f"link {job.link} of {job.links}: job {job.slurm_job_id}, {words}", markup=False)
    if as_json:
        print_json({**_as_json(submission, estimate, jobs), "warnings": [warning.what for warning in warnings]})
        return
    for warning in warnings:
        error_console().print(f"warning: {warning}", markup=False)
    console().print(f"watch it: qad_core status {submission.batch.folder.path}", markup=False, soft_wrap=True)


def _as_json(submission: Submission, estimate: ChainEstimate | None, jobs: Sequence[Job]) -> dict[str, object]:
    return {
        "run_folder": submission.batch.folder.path,
        "chain": submission.batch.chain,
        "script": submission.script,
        "script_path": submission.batch.script,
        "links_needed": estimate.links if estimate else None,
        "links": [{"link": link.number, "after": link.after, "comment": link.comment} for link in submission.links],
        "jobs": [{"link": job.link, "job_id": job.slurm_job_id, "dependency": job.dependency} for job in jobs],
    }
