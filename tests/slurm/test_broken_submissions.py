"""Submissions that break off on a real SLURM: what is in the queue is known, told, and can be taken out again."""

from __future__ import annotations

import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from qad_core.run.jobs import Job, read_jobs
from tests.slurm.cluster import SlurmCluster
from tests.slurm.tiny_chain import LoginNode
from tests.slurm.wrapped import unwrap, wait_for_file, wrap

SHORT_RUN = "train.train_samples=64"


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LoginNode:
    return LoginNode(slurm, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")


@pytest.fixture
def behind(login: LoginNode) -> tuple[str, str]:
    """Arguments that keep a chain waiting."""
    sleep = ["sbatch", "--parsable", "--job-name=blocker", "--output=/dev/null", "--wrap", "sleep 600"]
    blocker = login.cluster.run(sleep).stdout.strip()
    return ("--after", f"afterany:{blocker}")


def test_an_outage_in_the_middle_leaves_a_chain_that_the_next_command_completes_or_ends(
    login: LoginNode, behind: tuple[str, str]
) -> None:
    """slurmctld goes down after link 1 of 3 was taken, and stays down longer than the patience."""
    pid = (login.cluster.directory / "run/slurm/slurmctld.pid").read_text().strip()
    wrap(
        login, "sbatch",
        f'if [ "$call" = 1 ]; then "$real" "$@"; code=$?; kill {pid}; '
        f"while kill -0 {pid} 2>/dev/null; do sleep 0.1; done; exit $code; fi",
    )  # fmt: skip
    done = login.run(*login.submit_arguments("outage", SHORT_RUN, "--links", "3", *behind, "--patience", "1"))
    assert done.returncode == 4 and "does not answer" in done.stderr, done.stderr
    first, second = jobs_of(login, "outage")
    assert first.slurm_job_id and second.unresolved
    assert f"job {first.slurm_job_id} is in the queue, and link 2 may be" in done.stderr

    login.cluster.start_part("slurmctld")
    wait_for_nodes(login)
    unwrap(login)
    again = login.run(*login.submit_arguments("outage", SHORT_RUN, "--links", "2"))
    assert again.returncode == 2 and f"in the queue already: job(s) {first.slurm_job_id}." in again.stderr
    assert [job.refused for job in jobs_of(login, "outage")] == ["", "it never reached SLURM"]
    completed = login.run(*command_in(again.stderr, "submit"))
    assert completed.returncode == 0, completed.stderr
    assert waiting(login) == [job.slurm_job_id for job in jobs_of(login, "outage") if job.slurm_job_id]
    assert len(waiting(login)) == 3
    cancelled = login.run(*command_in(done.stderr, "cancel"))
    assert cancelled.returncode == 0 and waiting(login) == [], cancelled.stderr


def test_a_disk_that_is_full_in_the_middle_leaves_no_job_untold(login: LoginNode, behind: tuple[str, str]) -> None:
    wrap(
        login, "sbatch",
        'if [ "$call" = 2 ]; then "$real" "$@"; code=$?; script="${@: -1}"; jobs=${script%/slurm/*}/jobs.jsonl; '
        'mv "$jobs" "$here/saved"; ln -s /dev/full "$jobs"; exit $code; fi',
    )  # fmt: skip
    done = login.run(*login.submit_arguments("full", SHORT_RUN, "--links", "3", *behind))
    assert done.returncode == 4 and "No space left" in done.stderr, done.stderr
    both = waiting(login)
    assert len(both) == 2 and f"jobs {', '.join(both)} are in the queue" in done.stderr
    (login.root.parent / "bin/saved").rename(login.folder("full") / "jobs.jsonl")
    unwrap(login)
    assert login.run(*command_in(done.stderr, "cancel")).returncode == 0
    assert waiting(login) == []


def test_ctrl_c_says_what_is_in_the_queue(login: LoginNode, behind: tuple[str, str]) -> None:
    folder = wrap(login, "sbatch", 'if [ "$call" -ge 2 ]; then touch "$here/called"; sleep 60; exit 1; fi')
    submission = login.start(*login.submit_arguments("interrupted", SHORT_RUN, "--links", "3", *behind))
    wait_for_file(folder / "called")
    submission.send_signal(signal.SIGINT)
    output, _ = submission.communicate(timeout=60)
    left = waiting(login)
    assert submission.returncode == 130 and len(left) == 1, (left, output)
    assert f"job {left[0]} is in the queue, and link 2 may be" in output and "Traceback" not in output
    unwrap(login)
    assert login.run(*command_in(output, "cancel")).returncode == 0
    assert waiting(login) == []


def test_links_that_cannot_be_taken_back_are_named(login: LoginNode, behind: tuple[str, str]) -> None:
    refusal = "sbatch: error: Batch job submission failed: Invalid qos specification"
    wrap(login, "sbatch", f'if [ "$call" = 2 ]; then echo "{refusal}" >&2; exit 1; fi')
    taken_back = login.run(*login.submit_arguments("back", SHORT_RUN, "--links", "3", *behind))
    assert taken_back.returncode == 2 and re.search(r"Took back the links before it: job \d+\.", taken_back.stderr)
    assert waiting(login) == []

    (login.root.parent / "bin/sbatch.calls").unlink()
    silence = "scancel: error: Kill job error on job id 1: Unable to contact slurm controller (connect failure)"
    wrap(login, "scancel", f'echo "{silence}" >&2; exit 8')
    left = login.run(*login.submit_arguments("left", SHORT_RUN, "--links", "3", *behind, "--patience", "1"))
    (first,) = waiting(login)
    assert left.returncode == 2 and "qos" in left.stderr, left.stderr
    assert "could not be taken back" in left.stderr and f"job {first} is in the queue" in left.stderr
    unwrap(login)
    assert login.run(*command_in(left.stderr, "cancel")).returncode == 0


def test_a_job_that_comes_seconds_after_its_lost_call_is_found_and_listed_in_its_chain(
    login: LoginNode, behind: tuple[str, str]
) -> None:
    """The submission is killed in its call; the job comes to be after the first look for it."""
    folder = wrap(login, "sbatch", 'printf "%q " "$real" "$@" >"$here/late.sh"; touch "$here/called"; sleep 60; exit 1')
    submission = login.start(*login.submit_arguments("late", SHORT_RUN, *behind))
    wait_for_file(folder / "called")
    submission.kill()
    submission.wait()
    wrap(
        login, "squeue",
        'case "$*" in *--me*) "$real" "$@"; code=$?; '
        '[ "$call" -gt 1 ] || bash "$here/late.sh" >/dev/null; exit $code;; esac',
    )  # fmt: skip
    cancelled = login.run("cancel", str(login.folder("late")), "--chain")
    assert cancelled.returncode == 0, cancelled.stderr
    (job,) = jobs_of(login, "late")
    assert job.slurm_job_id and f"job {job.slurm_job_id}" in cancelled.stdout
    assert (login.folder("late") / f"slurm/{job.chain}.jobs").read_text() == f"{job.slurm_job_id}\n"
    assert waiting(login) == []


def test_a_link_that_slurm_took_twice_is_in_the_queue_once(login: LoginNode, behind: tuple[str, str]) -> None:
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    wrap(
        login, "sbatch",
        f'if [ "$call" = 1 ]; then "$real" "$@" >/dev/null; "$real" "$@" >/dev/null; echo "{said}" >&2; exit 1; fi',
    )  # fmt: skip
    done = login.run(*login.submit_arguments("double", SHORT_RUN, "--links", "2", *behind))
    assert done.returncode == 0 and "taken it more than once" in done.stderr, done.stderr
    jobs = jobs_of(login, "double")
    assert waiting(login) == [job.slurm_job_id for job in jobs]
    assert jobs[1].dependency == f"afterany:{jobs[0].slurm_job_id}"


def test_a_job_that_has_a_links_id_and_not_its_token_is_left_alone(login: LoginNode, behind: tuple[str, str]) -> None:
    first, second = login.submit("stranger", SHORT_RUN, "--links", "2", *behind)
    login.cluster.run(["scontrol", "update", f"JobId={first}", "Comment=another"])
    cancelled = login.run("cancel", str(login.folder("stranger")), "--chain")
    assert f"Job {first} is left alone" in cancelled.stderr and "'another'" in cancelled.stderr
    assert f"job {second} (link 2) is cancelled" in cancelled.stdout
    assert waiting(login) == [first]
    nothing_left = login.run("cancel", str(login.folder("stranger")), "--chain")
    assert nothing_left.returncode == 2 and waiting(login) == [first]


def test_cancel_waits_for_no_submission_and_no_longer_than_its_patience(login: LoginNode) -> None:
    folder = wrap(login, "sbatch", 'touch "$here/called"; sleep 60; exit 1')
    submission = login.start(*login.submit_arguments("busy", SHORT_RUN))
    wait_for_file(folder / "called")
    busy = login.run("cancel", str(login.folder("busy")), "--chain")
    assert busy.returncode == 2 and "is being submitted already" in busy.stderr
    submission.kill()
    submission.wait()
    login.cluster.stop("slurmctld")
    silent = login.run("cancel", str(login.folder("busy")), "--patience", "0")
    assert silent.returncode == 4 and "does not answer" in silent.stderr


def jobs_of(login: LoginNode, tag: str) -> list[Job]:
    return read_jobs(login.folder(tag) / "jobs.jsonl")


def waiting(login: LoginNode) -> list[str]:
    """Ids of the links that wait, by SLURM's own word."""
    queue = login.cluster.run(["squeue", "-h", "-t", "PENDING", "-o", "%i %j"])
    assert queue.returncode == 0, queue.stderr
    return sorted((line.split()[0] for line in queue.stdout.splitlines() if not line.endswith("blocker")), key=int)


def wait_for_nodes(login: LoginNode) -> None:
    """Poll until a controller that has just started has heard of its nodes."""
    deadline = time.monotonic() + 60
    while "idle" not in login.cluster.run(["sinfo", "-h", "-o", "%t"]).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def command_in(text: str, command: str) -> list[str]:
    """Arguments of the command of ours that a text names in backquotes."""
    found = re.search(rf"`qad_core ({command} [^`]*)`", text)
    assert found is not None, text
    return shlex.split(found[1])
