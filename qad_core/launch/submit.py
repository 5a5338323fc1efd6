"""Puts a chain into SLURM's queue: writes the run folder, then calls sbatch once a link, and loses no answer.

Owns the side effects and their order. Each call is written into jobs.jsonl before it is made, with a token
that SLURM keeps as the job's comment: when an answer is lost, the job is looked for before another try, and
a submission that was itself killed is cleared up by the next one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from qad_core.config.load import read_resolved
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.errors import RunError
from qad_core.launch.lock import locked_submission
from qad_core.launch.run_local import disk_errors, set_aside, write_folder
from qad_core.launch.sbatch import log_paths
from qad_core.launch.submission import LinkPlan, Submission
from qad_core.launch.trial import find_refusal
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job, read_jobs
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmRefused, SlurmUnavailable
from qad_core.slurm.jobs import is_finished

PATIENCE_SECONDS = 300.0
"""How long a submission waits for a controller that does not answer."""
RETRY_SECONDS = 5.0
Answer = TypeVar("Answer")
SETTLE_SECONDS = 5.0
"""A job may show up so long after the call that asked for it broke off."""
RETURN_SECONDS = 60.0
"""So long after a controller has come back its nodes may be missing, and what it refuses then it may take later."""


@dataclass(frozen=True)
class LiveLink:
    """A link that waits or runs, and SLURM's word for which."""

    job: Job
    state: str


@dataclass
class Submitter:
    """One submission's means: SLURM, the clock, and somebody to tell."""

    client: SlurmClient
    say: Callable[[str], None]
    patience_seconds: float = PATIENCE_SECONDS
    _silent_at: float | None = field(default=None, repr=False)
    """When SLURM last gave no answer, on the monotonic clock."""

    def find_refusal(self, config: RunConfig, working_directory: Path) -> Problem | None:
        """What SLURM says against the job before it is submitted; raises SlurmUnavailable as `submit`."""
        while True:
            refusal = self.ask_patiently(lambda: find_refusal(self.client, config, working_directory))
            if refusal is None or not self._has_just_come_back():
                return refusal
            time.sleep(RETRY_SECONDS)

    def submit(self, submission: Submission, *, fresh: bool = False) -> list[Job]:
        """Submit all links; their records, with SLURM's job ids.

        Raises SlurmRefused for a job that SLURM takes not (those before it are cancelled), SlurmUnavailable
        when it does not answer for as long as the patience lasts, and RunError for a run whose links are in
        the queue with another config, or that another submission is busy with.
        """
        folder = submission.batch.folder
        with locked_submission(folder), disk_errors(folder):
            self.clear_up(folder)
            live = [link.job for link in self.live_links(folder)]
            _check_live(folder, submission, live, fresh=fresh)
            if fresh:
                set_aside(folder)
            if not live:
                write_folder(folder, submission.resolved)
            _write_script(submission)
            return self._submit_links(submission, live)

    def clear_up(self, folder: RunFolder) -> None:
        """Find out what became of calls of sbatch whose answer nobody has seen."""
        for job in read_jobs(folder.jobs):
            if job.unresolved:
                token = job.id.removeprefix("slurm-")
                found = self.ask_patiently(lambda token=token: self.client.find_submission(f"qad:{token}"))
                known = {"slurm_job_id": found} if found else {"refused": "it never reached SLURM"}
                append_job(folder.jobs, Job.model_validate({"id": job.id, "kind": "slurm", **known}))

    def live_links(self, folder: RunFolder) -> list[LiveLink]:
        """Links of the run that wait or run; raises SlurmUnavailable rather than taking silence for none.

        A link that has ended by its own record may be in the queue again: SLURM requeues jobs.
        """
        jobs = [job for job in read_jobs(folder.jobs) if job.slurm_job_id]
        if not jobs:
            return []
        queue = self.ask_patiently(lambda: self.client.queue([job.slurm_job_id for job in jobs]))
        states = {entry.job_id: entry.state for entry in queue if not is_finished(entry.state)}
        return [LiveLink(job, states[job.slurm_job_id]) for job in jobs if job.slurm_job_id in states]

    def ask_patiently(self, ask: Callable[[], Answer], deadline: float | None = None) -> Answer:
        """Ask until SLURM answers; raises its SlurmUnavailable when it has not by the deadline."""
        deadline = time.monotonic() + self.patience_seconds if deadline is None else deadline
        while True:
            try:
                return ask()
            except SlurmUnavailable as error:
                self._silent_at = time.monotonic()
                if self._silent_at + RETRY_SECONDS > deadline:
                    raise
                self.say(f"{error.message} Asking again.")
                time.sleep(RETRY_SECONDS)

    def _submit_links(self, submission: Submission, live: Sequence[Job]) -> list[Job]:
        batch, jobs = submission.batch, list[Job]()
        output, error = log_paths(submission.resolved.config, batch)
        for link in submission.links:
            dependency = link.dependency_on([job.slurm_job_id for job in (*live, *jobs)])
            planned = Job(
                id=link.job_record,
                kind="slurm",
                chain=batch.chain,
                link=link.number,
                links=len(submission.links),
                submitted=time.time(),
                dependency=dependency or "",
                time_limit_seconds=submission.resolved.config.cluster.slurm.time_limit_seconds,
                log=str(output),
                error_log=str(error),
            )
            append_job(batch.folder.jobs, planned)
            try:
                job_id = self._submit_link(submission, link, dependency)
            except SlurmRefused as refusal:
                append_job(batch.folder.jobs, Job(id=planned.id, kind="slurm", refused=refusal.said))
                self._take_back(jobs)
                raise
            append_job(batch.folder.jobs, Job(id=planned.id, kind="slurm", slurm_job_id=job_id))
            with batch.job_ids.open("a", encoding="utf-8") as file:
                file.write(f"{job_id}\n")
            jobs.append(planned.model_copy(update={"slurm_job_id": job_id}))
        return jobs

    def _submit_link(self, submission: Submission, link: LinkPlan, dependency: str | None) -> str:
        """One job, and never two: before a call is repeated, the job of the first is looked for twice."""
        environment = {"QAD_SUBMISSION": link.token}
        deadline = time.monotonic() + self.patience_seconds
        while True:
            try:
                return self.client.submit(
                    submission.batch.script,
                    comment=link.comment,
                    dependency=dependency,
                    environ=environment,
                    chdir=submission.batch.working_directory,
                )
            except SlurmRefused:
                if not self._has_just_come_back():
                    raise
                time.sleep(RETRY_SECONDS)
                continue
            except SlurmUnavailable as error:
                self._silent_at, silence = time.monotonic(), error
                self.say(f"{error.message} Looking for the job before another try.")
            found = self.ask_patiently(lambda: self.client.find_submission(link.comment), deadline)
            if found is None:
                time.sleep(SETTLE_SECONDS)
                found = self.ask_patiently(lambda: self.client.find_submission(link.comment), deadline)
            if found is not None:
                self.say(f"SLURM has it: job {found}.")
                return found
            if time.monotonic() > deadline:
                raise silence

    def _has_just_come_back(self) -> bool:
        return self._silent_at is not None and time.monotonic() - self._silent_at < RETURN_SECONDS

    def _take_back(self, jobs: Sequence[Job]) -> None:
        if jobs:
            self.client.cancel([job.slurm_job_id for job in jobs])
            self.say(f"Took back the {len(jobs)} link(s) before it.")


def secrets_in_script(script: str, names: Sequence[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """Names of secret variables whose value stands in a script; there must be none."""
    environ = os.environ if environ is None else environ
    return [name for name in names if environ.get(name) and environ[name] in script]


def _check_live(folder: RunFolder, submission: Submission, live: Sequence[Job], *, fresh: bool) -> None:
    if not live:
        return
    ids = ", ".join(job.slurm_job_id for job in live)
    cancel = f"Cancel what is left with `qad_core cancel {folder.name} --chain`"
    if fresh or submission.links[0].after is None:
        raise RunError(
            f"The run {folder.name} is in the queue already: job(s) {ids}.",
            f"{cancel}, or put more links behind them with --after afterany:{live[-1].slurm_job_id}.",
        )
    known = read_resolved(folder.config)
    if known.config != submission.resolved.config:
        raise RunError(
            f"The run {folder.name} has job(s) {ids} in the queue with another config.",
            f"{cancel} before its config changes.",
        )


def _write_script(submission: Submission) -> None:
    batch = submission.batch
    batch.folder.slurm.mkdir(parents=True, exist_ok=True)
    log_paths(submission.resolved.config, batch)[0].parent.mkdir(parents=True, exist_ok=True)
    batch.script.write_text(submission.script, encoding="utf-8")
    batch.script.chmod(0o755)
