"""`qad_core submit`: an experiment, or more links of a run, into SLURM's queue.

Owns what is checked and decided before anything is submitted. What is printed of it is `submit_words.py`'s.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.commands.experiment import run_folder_of, with_tag
from qad_core.commands.output import error_console, print_json, print_notes, show_problems
from qad_core.commands.runs import find_run, find_run_folder
from qad_core.commands.submit_words import show_dry_run, show_plan, show_result
from qad_core.config.checks import check_experiment
from qad_core.config.load import ResolvedConfig, read_resolved
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.errors import ConfigError, ExitCode, RunError
from qad_core.launch.chain import SPARE_LINKS, ChainEstimate, estimate_chain
from qad_core.launch.dependency import AwaitedRun, Wait, check_dependency, parse_after
from qad_core.launch.live_links import live_links
from qad_core.launch.node import is_done
from qad_core.launch.patience import PATIENCE_SECONDS, PatientSlurm
from qad_core.launch.sbatch import BatchJob, make_script
from qad_core.launch.submission import Submission, make_links, new_chain_token
from qad_core.launch.submit import Submitter, secrets_in_script
from qad_core.run.checkpoints import newest_checkpoint_step
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import read_jobs
from qad_core.run.pace import measure_pace
from qad_core.run.show import show_duration
from qad_core.run.status import read_status
from qad_core.slurm.client import SlurmClient

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


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
    _check_pace(options.seconds_per_iteration)
    run = find_run_folder(experiment, roots)
    name = str(run.config) if run else experiment
    resolved, problems = check_experiment(name, with_tag(overrides, options.tag), fresh=options.fresh)
    problems = [*problems, *_problems_of_kind(resolved)]
    if problems or resolved is None:
        return show_problems(problems, as_json=options.as_json)
    print_notes(resolved.notes)
    folder = run_folder_of(resolved.config)
    if run is not None:
        _refuse_moved(run, folder)
    if not options.fresh:
        _refuse_when_done(folder, resolved.config)
    slurm = PatientSlurm(SlurmClient(), _say, options.patience_seconds)
    estimate = _estimate(folder, resolved.config, options)
    wait = _wait_for(options.after, roots, slurm)
    submission = _plan(resolved, folder, options, estimate, wait)
    print_notes([Problem(note, "", "") for note in wait.notes])
    if not options.as_json:
        show_plan(submission, estimate)
    if options.dry_run:
        show_dry_run(submission, estimate, as_json=options.as_json)
        return ExitCode.DONE
    submitter = Submitter(slurm)
    try:
        refusal = submitter.find_refusal(resolved.config, Path.cwd())
        if refusal is not None:
            return show_problems([refusal], as_json=options.as_json)
        jobs = submitter.submit(submission, fresh=options.fresh)
    except KeyboardInterrupt:
        return _show_interrupted(submitter.what_is_left(folder), as_json=options.as_json)
    show_result(slurm.client, submission, estimate, jobs, as_json=options.as_json)
    return ExitCode.DONE


def _say(text: str) -> None:
    """What happens meanwhile, on stderr."""
    error_console().print(text, markup=False)


def _check_pace(seconds: float | None) -> None:
    if seconds is not None and not math.isfinite(seconds):
        raise ConfigError(f"--seconds-per-iteration is {seconds}", "Give it a number of seconds.")


def _refuse_moved(run: RunFolder, planned: RunFolder) -> None:
    """A folder that is not where its config says would be submitted as another run than the one that was named."""
    own = run_folder_of(read_resolved(run.config).config).path
    here = run.path.resolve()
    if here in (own.resolve(), planned.path.resolve()):
        return
    renamed = here.name != own.name
    raise RunError(
        f"The run folder {run.path} was {'renamed' if renamed else 'moved'}: by its config it is {own}.",
        f"Move it back, or say where it is now with paths.checkpoint_root={here.parent}."
        if not renamed
        else f"Give it its name {own.name} again: a run's name follows from its config.",
    )


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
    if seconds > slurm.time_limit_seconds:
        what = f"An iteration of {seconds:g} s does not fit into a walltime of {slurm.time_limit}."
        raise ConfigError(what, "Take a longer cluster.slurm.time_limit, or another pace.")
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
    options: SubmitOptions,
    estimate: ChainEstimate | None,
    wait: Wait,
) -> Submission:
    if options.links is not None and options.until_done:
        raise ConfigError("--links and --until-done are both given", "Give one of them.")
    count = options.links or 1
    if options.until_done and estimate is not None:
        count = estimate.links + SPARE_LINKS
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
    return Submission(resolved, batch, script, make_links(count, chain, wait.dependency))


def _wait_for(after: str | None, roots: Sequence[Path], slurm: PatientSlurm) -> Wait:
    if after is None:
        return Wait()
    wait = parse_after(after, lambda run: _awaited_run(find_run(run, roots).folder, slurm))
    dependency = wait.dependency
    if dependency is not None:
        slurm.ask(lambda client: check_dependency(client, dependency))
    return wait


def _awaited_run(folder: RunFolder, slurm: PatientSlurm) -> AwaitedRun:
    status = read_status(folder.status)
    return AwaitedRun(
        folder.name,
        done=status is not None and is_done(status, newest_checkpoint_step(folder), status.train_iterations),
        jobs=tuple(link.job_id for link in live_links(slurm, folder)),
        submitted=any(job.kind == "slurm" and job.slurm_job_id for job in read_jobs(folder.jobs)),
    )


def _show_interrupted(left: str, *, as_json: bool) -> int:
    problem = Problem("interrupted", "", left or "Nothing of this chain is in the queue.")
    if as_json:
        print_json(None, [problem])
    else:
        _say(str(problem))
    return INTERRUPTED
