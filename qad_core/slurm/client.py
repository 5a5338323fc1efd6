"""The only module that runs SLURM's commands: sbatch, squeue, sacct, scontrol, scancel and sinfo.

Every call is an argument list with a timeout, in an environment of its own (`environment.py`), asks for named
columns as text, and either returns what SLURM answered or raises. Silence is never taken for an answer: no
list is empty because nobody was there. What a failure means is decided in `failures.py`.

JSON is not asked for: squeue --json of 22.05 answers with no jobs and exit code 0 when the controller is down,
and its shape differs in every version.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core.slurm.command import chdir_option, find_program, run_in_time
from qad_core.slurm.environment import command_environment
from qad_core.slurm.errors import SlurmUnavailable
from qad_core.slurm.failures import (
    UNKNOWN_JOB,
    accounting_failure,
    action_failure,
    is_no_answer,
    no_answer,
    question_failure,
    submission_failure,
)
from qad_core.slurm.job_details import parse_job_details
from qad_core.slurm.partitions import PARTITION_FORMAT, PartitionEntry, parse_partitions
from qad_core.slurm.records import (
    ACCOUNTING_COLUMNS,
    COLUMN_END,
    QUEUE_FORMAT,
    SUBMISSION_COLUMNS,
    AccountingEntry,
    QueueEntry,
    parse_accounting,
    parse_queue,
    parse_submissions,
)

_SQUEUE = ("squeue", "--noheader", "--array", "--all", "--local", "--noconvert", f"--Format={QUEUE_FORMAT}")
_SACCT = ("sacct", "--allocations", "--noheader", "--parsable2", f"--delimiter={COLUMN_END}")


@dataclass(frozen=True)
class SlurmClient:
    """SLURM as its commands on this machine reach it.

    Any method raises SlurmMissing when the command or SLURM's configuration is not here, and SlurmUnavailable
    when the controller gives no answer, within the timeout or at all.
    """

    timeout_seconds: float = 30.0
    """Most time for one command; SLURM's own timeouts are 10 s and, for some questions, twice that."""
    environ: Mapping[str, str] | None = None
    """Environment to start from; None is that of this process."""

    def submit(
        self,
        script: Path,
        *,
        comment: str,
        dependency: str | None = None,
        environ: Mapping[str, str] | None = None,
        chdir: Path | None = None,
    ) -> str:
        """Submit a batch script; SLURM's id for the job.

        `environ` is added to the environment of sbatch, and so to the job's, and is in no argument. A
        dependency that can no longer be met leaves the job waiting, to be seen, whatever the site prefers. SLURM
        takes a dependency on a job that it does not know as met: that is for the caller to look up before.

        Raises SlurmRefused; RunError for a `chdir` that is no folder (the job would run in /tmp instead); and
        SlurmUnavailable, after which the job may exist all the same: see `submissions.py`.
        """
        options = ["--parsable", f"--comment={comment}"]
        if dependency:
            options += [f"--dependency={dependency}", "--kill-on-invalid-dep=no"]
        command = ["sbatch", *options, *chdir_option(chdir), str(script)]
        answer = self._run(command, environ=environ)
        job_id = answer.stdout.strip().partition(";")[0]
        if answer.returncode < 0 or (answer.returncode > 0 and not answer.stderr.strip()):
            raise no_answer(f"sbatch ended with {answer.returncode} and without a word")
        if answer.returncode != 0:
            raise submission_failure(answer.stderr)
        if not job_id.isdigit():
            raise SlurmUnavailable(f"sbatch gave no job id: {answer.stdout.strip()[:200]!r}.", "The job may exist.")
        return job_id

    def test_only(self, script: str, *, chdir: Path | None = None) -> None:
        """Ask whether SLURM would take the text of a batch script, without submitting it.

        Raises as `submit`. Some refusals are not foreseen: a walltime above the partition's is taken, and waits.
        """
        answer = self._run(["sbatch", "--test-only", *chdir_option(chdir)], stdin=script)
        if answer.returncode != 0:
            raise submission_failure(answer.stderr)

    def own_jobs(self) -> list[QueueEntry]:
        """The caller's jobs in the controller's memory, those that have just ended too, by one squeue."""
        return parse_queue(self._ask([*_SQUEUE, "--states=all", "--me"]))

    def own_submissions(self, days: int) -> list[tuple[str, str, str]]:
        """(job id, comment, command line) of the caller's jobs of the last days, as the accounts have them.

        The accounts of a cluster need not hold comments; the command line does. Raises AccountingUnavailable.
        """
        since, mine = f"--starttime=now-{days}days", f"--user={os.getuid()}"
        return list(parse_submissions(self._ask_accounts(SUBMISSION_COLUMNS, since, mine)))

    def queue(
        self, job_ids: Sequence[str] | None = None, *, user: str | None = None, ended: bool = False
    ) -> list[QueueEntry]:
        """Jobs in the controller's memory, by one squeue.

        With `job_ids` those of them that are there, the ones that have just ended too; without, all that wait
        or run, of everyone or of a `user`, and with `ended` those that have just ended. Raises SlurmRefused for a
        user that the machine does not know.
        """
        if job_ids is not None and not job_ids:
            return []
        command = [*_SQUEUE]
        if job_ids is not None or ended:
            command.append("--states=all")
        if job_ids is not None:
            command.append(f"--jobs={','.join(job_ids)}")
        if user is not None:
            command.append(f"--user={user}")
        answer = self._run(command)
        if answer.returncode != 0 and UNKNOWN_JOB in answer.stderr:
            return []
        return parse_queue(_checked(answer))

    def accounting(self, job_ids: Sequence[str], *, every_start: bool = False) -> list[AccountingEntry]:
        """What the accounts have of jobs, by one sacct; unknown ids are left out.

        With `every_start` also the starts before a job was requeued, each an entry of the same job id. Raises
        AccountingUnavailable (and never SlurmUnavailable for the lack of an answer).
        """
        if not job_ids:
            return []
        starts = ["--duplicates"] if every_start else []
        return parse_accounting(self._ask_accounts(ACCOUNTING_COLUMNS, f"--jobs={','.join(job_ids)}", *starts))

    def show_job(self, job_id: str) -> dict[str, str] | None:
        """What scontrol tells of a job, times as Unix seconds; None when the controller knows it not (any more)."""
        answer = self._run(["scontrol", "show", "job", job_id])
        if answer.returncode != 0 and UNKNOWN_JOB in answer.stderr:
            return None
        return parse_job_details(_checked(answer))

    def cancel(self, job_ids: Sequence[str], *, only_pending: bool = False) -> None:
        """End jobs; those that SLURM does not know, or that have ended, are passed over. Raises SlurmRefused."""
        if job_ids:
            pending = ["--state=PENDING"] if only_pending else []
            self._act(f"cancel {_name_jobs(job_ids)}", ["scancel", *pending, *job_ids])

    def stop_gently(self, job_id: str) -> None:
        """Send SIGUSR1 to the batch script of a running job, as SLURM does ahead of the walltime.

        A job that does not run is left alone, also while its nodes are made ready. Raises SlurmRefused.
        """
        # without --state scancel tries to signal a waiting job for minutes
        answer = self._run(["scancel", "--state=RUNNING", "--batch", "--signal=USR1", job_id])
        if answer.returncode != 0 and UNKNOWN_JOB not in answer.stderr:
            raise action_failure(f"signal job {job_id}", answer.stderr)

    def hold(self, job_ids: Sequence[str]) -> None:
        """Keep waiting jobs from starting; a running one is held once it is requeued. Raises SlurmRefused."""
        self._act(f"hold {_name_jobs(job_ids)}", ["scontrol", "hold", ",".join(job_ids)])

    def release(self, job_ids: Sequence[str]) -> None:
        """Let held jobs start. Raises SlurmRefused."""
        self._act(f"release {_name_jobs(job_ids)}", ["scontrol", "release", ",".join(job_ids)])

    def requeue(self, job_ids: Sequence[str]) -> None:
        """End running jobs and put them, or jobs that have ended, back into the queue. Raises SlurmRefused.

        By default SLURM starts them again no sooner than two minutes later; `start_now` does not wait for that.
        """
        self._act(f"requeue {_name_jobs(job_ids)}", ["scontrol", "requeue", ",".join(job_ids)])

    def start_now(self, job_id: str) -> None:
        """Drop the time before which a waiting job may not start. Raises SlurmRefused."""
        self._act(f"start job {job_id} now", ["scontrol", "update", f"JobId={job_id}", "StartTime=now"])

    def partitions(self) -> list[PartitionEntry]:
        """The partitions that the caller may see, with their free nodes and GPUs."""
        return parse_partitions(self._ask(["sinfo", "--noheader", "--noconvert", f"--Format={PARTITION_FORMAT}"]))

    def version(self) -> str:
        """Version of the commands on this machine, such as `22.05.8`."""
        return self._ask(["sinfo", "--version"]).strip().rpartition(" ")[2]

    def ping(self) -> bool:
        """Whether a controller answers."""
        try:
            return "is UP" in self._run(["scontrol", "ping"]).stdout
        except SlurmUnavailable:
            return False

    def _act(self, action: str, command: Sequence[str]) -> None:
        answer = self._run(command)
        if answer.returncode != 0:
            raise action_failure(action, answer.stderr)

    def _ask(self, command: Sequence[str]) -> str:
        return _checked(self._run(command))

    def _ask_accounts(self, columns: Sequence[str], *options: str) -> str:
        try:
            answer = self._run([*_SACCT, f"--format={','.join(columns)}", *options])
        except SlurmUnavailable as error:
            raise accounting_failure(f"sacct said nothing in {self.timeout_seconds:g} s") from error
        if answer.returncode != 0:
            raise accounting_failure(answer.stderr)
        return answer.stdout

    def _run(
        self, command: Sequence[str], *, environ: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        base = command_environment(os.environ if self.environ is None else self.environ)
        program = find_program(command[0], base)
        times = {} if command[0] == "sbatch" else {"SLURM_TIME_FORMAT": "%s"}  # sbatch hands its environment on
        environment = {**base, **times, **(environ or {})}
        return run_in_time([program, *command[1:]], environment, self.timeout_seconds, stdin=stdin)


def _checked(answer: subprocess.CompletedProcess[str]) -> str:
    """What was printed, where it is an answer."""
    if answer.returncode != 0 or is_no_answer(answer.stderr):
        raise question_failure(answer.stderr)
    return answer.stdout


def _name_jobs(job_ids: Sequence[str]) -> str:
    return f"job{'s' if len(job_ids) > 1 else ''} {', '.join(job_ids)}"
