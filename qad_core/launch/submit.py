"""Puts a chain into SLURM's queue: writes the run folder, then calls sbatch once a link, and loses no answer.

Owns the side effects and their order. Each call is written into jobs.jsonl before it is made, with a token
that SLURM keeps as the job's comment: when an answer is lost, the job is looked for before another try, and
a submission that was itself killed is cleared up by the next one (`live_links.py`). Whatever ends a submission
before all of its links are in the queue, the reader is told which are.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qad_core.config.load import read_resolved
from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.errors import QadError, RunError
from qad_core.launch.dependency import EITHER
from qad_core.launch.live_links import (
    SETTLE_SECONDS,
    LiveLink,
    find_one,
    live_links,
    note_job,
    settle_lost_answers,
)
from qad_core.launch.lock import locked_submission
from qad_core.launch.patience import RETRY_SECONDS, PatientSlurm
from qad_core.launch.run_local import disk_errors, set_aside, write_folder
from qad_core.launch.sbatch import log_paths
from qad_core.launch.submission import LinkPlan, Submission
from qad_core.launch.trial import find_refusal
from qad_core.run.address import address
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job
from qad_core.slurm.errors import SlurmRefused, SlurmUnavailable
from qad_core.slurm.jobs import is_finished


@dataclass
class Submitter:
    """One submission's means, and how far it has come."""

    slurm: PatientSlurm
    taken: list[str] = field(default_factory=list[str])
    """Ids of the jobs that this submission has in the queue."""
    calling: LinkPlan | None = None
    """The link whose call of sbatch is under way."""

    def find_refusal(self, config: RunConfig, working_directory: Path) -> Problem | None:
        """What SLURM says against the job before it is submitted; raises SlurmUnavailable as `submit`."""
        while True:
            refusal = self.slurm.ask(lambda client: find_refusal(client, config, working_directory))
            if refusal is None or not self.slurm.has_just_come_back():
                return refusal
            time.sleep(RETRY_SECONDS)

    def submit(self, submission: Submission, *, fresh: bool = False) -> list[Job]:
        """Submit all links; their records, with SLURM's job ids.

        Raises SlurmRefused for a job that SLURM takes not (those before it are cancelled), SlurmUnavailable
        when it does not answer for as long as the patience lasts, OutsideError for a disk that takes no more, and
        RunError for a run whose links are in the queue with another config, or that another submission is busy with.
        """
        folder = submission.batch.folder
        with self._telling_what_is_left(folder), locked_submission(folder):
            settle_lost_answers(self.slurm, folder)
            live = live_links(self.slurm, folder)
            _check_live(folder, submission, live, fresh=fresh)
            with locked_submission(folder) if fresh and _clear(folder) else contextlib.nullcontext():
                if not live:
                    write_folder(folder, submission.resolved)
                _write_script(submission)
                return self._submit_links(submission, [link.job_id for link in live])

    def what_is_left(self, folder: RunFolder) -> str:
        """What a submission that has broken off leaves in the queue, and the command that ends it; empty for nothing.

        A job whose answer has not been seen may be among it: the command looks for it.
        """
        cancel = f"`qad_core cancel {address(folder)} --chain`"
        if self.taken:
            jobs = f"job {self.taken[0]} is" if len(self.taken) == 1 else f"jobs {', '.join(self.taken)} are"
            maybe = "" if self.calling is None else f", and link {self.calling.number} may be"
            return f"Of this chain {jobs} in the queue{maybe}: {cancel} takes out what is there."
        if self.calling is not None:
            return f"Link {self.calling.number} may be in the queue: {cancel} looks for it and takes it out."
        return ""

    @contextlib.contextmanager
    def _telling_what_is_left(self, folder: RunFolder) -> Generator[None]:
        """Add to an error's hint which jobs the submission leaves behind."""
        try:
            with disk_errors(folder):
                yield
        except QadError as error:
            error.hint = f"{error.hint} {self.what_is_left(folder)}".strip()
            raise

    def _submit_links(self, submission: Submission, before: Sequence[str]) -> list[Job]:
        batch, began = submission.batch, time.monotonic()
        jobs: list[Job] = []
        for link in submission.links:
            dependency = link.dependency_on([*before, *self.taken])
            planned = _plan_record(submission, link, dependency)
            append_job(batch.folder.jobs, planned)
            self.calling = link
            try:
                job_id = self._submit_link(submission, link, dependency)
            except SlurmRefused as refusal:
                self.calling = None
                append_job(batch.folder.jobs, Job(id=planned.id, kind="slurm", refused=refusal.said))
                self._take_back()
                raise
            self.taken.append(job_id)
            self.calling = None
            note_job(batch.folder, planned, job_id)
            jobs.append(planned.model_copy(update={"slurm_job_id": job_id}))
        if self.slurm.was_silent_since(began):  # a call that was given up for lost may have been heard by now
            for link, job in zip(submission.links, jobs, strict=True):
                find_one(self.slurm, link.comment, keep=job.slurm_job_id)
        return jobs

    def _submit_link(self, submission: Submission, link: LinkPlan, dependency: str | None) -> str:
        """One job, and never two: before a call is repeated, the job of the first is looked for twice."""
        deadline = self.slurm.new_deadline()
        while True:
            try:
                job_id = self.slurm.client.submit(
                    submission.batch.script,
                    comment=link.comment,
                    dependency=dependency,
                    environ={"QAD_SUBMISSION": link.token},
                    chdir=submission.batch.working_directory,
                )
            except SlurmRefused:
                if not self.slurm.has_just_come_back():
                    raise
                time.sleep(RETRY_SECONDS)
                continue
            except SlurmUnavailable as error:
                silence = error
                self.slurm.note_silence(f"{error.message} Looking for the job before another try.")
            else:
                self.slurm.note_answer()
                return job_id
            found = find_one(self.slurm, link.comment, deadline)
            if found is None:
                time.sleep(SETTLE_SECONDS)
                found = find_one(self.slurm, link.comment, deadline)
            if found is not None:
                self.slurm.say(f"SLURM has it: job {found}.")
                return found
            if time.monotonic() > deadline:
                raise silence

    def _take_back(self) -> None:
        """Cancel the links before one that was refused; those that could not be are told of with the refusal."""
        if not self.taken:
            return
        jobs = tuple(self.taken)
        try:
            self.slurm.ask(lambda client: client.cancel(jobs))
            entries = self.slurm.ask(lambda client: client.queue(jobs))
        except (SlurmRefused, SlurmUnavailable) as error:
            self.slurm.say(f"The links before it could not be taken back: {error.message}")
            return
        ending = [entry.job_id for entry in entries if not is_finished(entry.state)]
        still = f"; SLURM is still ending {', '.join(ending)}" if ending else ""
        self.slurm.say(f"Took back the links before it: job{'s' if jobs[1:] else ''} {', '.join(jobs)}{still}.")
        self.taken.clear()


def secrets_in_script(script: str, names: Sequence[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """Names of secret variables whose value stands in a script; there must be none."""
    environ = os.environ if environ is None else environ
    return [name for name in names if environ.get(name) and environ[name] in script]


def _plan_record(submission: Submission, link: LinkPlan, dependency: str | None) -> Job:
    """The record of a call that is about to be made."""
    config, batch = submission.resolved.config, submission.batch
    output, error = log_paths(config, batch)
    return Job(
        id=link.job_record,
        kind="slurm",
        chain=batch.chain,
        link=link.number,
        links=len(submission.links),
        submitted=time.time(),
        dependency=dependency or "",
        time_limit_seconds=config.cluster.slurm.time_limit_seconds,
        log=str(output),
        error_log=str(error),
    )


def _check_live(folder: RunFolder, submission: Submission, live: Sequence[LiveLink], *, fresh: bool) -> None:
    if not live:
        return
    ids, name, after = ", ".join(link.job_id for link in live), address(folder), submission.links[0].after
    cancel = f"Cancel what is left with `qad_core cancel {name} --chain`"
    if fresh or after is None:
        count = len(submission.links)
        more = f"`qad_core submit {name} --links {count} --after afterany:{live[-1].job_id}`"
        raise RunError(
            f"The run {folder.name} is in the queue already: job(s) {ids}.",
            f"{cancel}, or put more links behind them with {more}.",
        )
    if EITHER in after:
        raise RunError(
            f"The run {folder.name} has job(s) {ids} in the queue; SLURM cannot wait for all of these and for "
            "whichever link finishes another run.",
            f"{cancel}, or leave --after afterok:RUN out.",
        )
    known = read_resolved(folder.config)
    if known.config != submission.resolved.config:
        raise RunError(
            f"The run {folder.name} has job(s) {ids} in the queue with another config.",
            f"{cancel} before its config changes.",
        )


def _clear(folder: RunFolder) -> bool:
    """Set an older run aside, with the lock that is in it; whether there was anything but locks."""
    locks = {folder.submit_lock.name, folder.lock.name}
    if not any(path.name not in locks for path in folder.path.iterdir()):
        return False
    set_aside(folder)
    return True


def _write_script(submission: Submission) -> None:
    batch = submission.batch
    batch.folder.slurm.mkdir(parents=True, exist_ok=True)
    log_paths(submission.resolved.config, batch)[0].parent.mkdir(parents=True, exist_ok=True)
    batch.script.write_text(submission.script, encoding="utf-8")
    batch.script.chmod(0o755)
