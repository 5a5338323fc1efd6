"""Chains on a real SLURM: what a walltime, a lost node, a silent controller and a cancelled link do to a run.

Every chain here ends with the run done, each step in metrics.jsonl once, and no job left or doubled.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qad_core.run.checkpoints import newest_checkpoint_step
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, read_jobs
from tests.slurm.cluster import SlurmCluster
from tests.slurm.tiny_chain import SLOW_START_SECONDS, LoginNode, job_states, steps_of

LONG = "train.train_samples=4000"
"""500 steps: minutes."""


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LoginNode:
    return LoginNode(slurm, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")


def test_a_chain_of_three_links_survives_a_walltime_a_killed_node_and_a_silent_controller(login: LoginNode) -> None:
    jobs = login.submit(
        "chain", "--links", "3", "cluster.slurm.time_limit=3:00", "checkpoint.interval=20", "train.train_samples=800"
    )
    folder = login.folder("chain")

    # Link 1 stands still until its walltime is near: a fast machine would be done before it.
    login.wait_for_step("chain", 25)
    login.signal_processes(jobs[0], signal.SIGSTOP, launchers=False)
    wait_until(lambda: record_of(folder, 0).stopped_by == "walltime", 200)
    login.signal_processes(jobs[0], signal.SIGCONT, launchers=False)
    status = login.wait("chain", lambda status: status["links"][1]["stage"] == "running", 120)
    assert status["links"][0]["exit_code"] == 3 and "stopped early and saved" in status["links"][0]["words"]
    saved = saved_step(folder)
    assert saved >= 25 and saved % 20, "saved at the step of the signal, not of the interval"

    # Link 2 loses all that runs on one node, the launcher too, while nobody can ask SLURM.
    wait_until(lambda: saved_step(folder) > saved, SLOW_START_SECONDS)
    login.cluster.stop("slurmctld")
    assert login.signal_processes(jobs[1], signal.SIGKILL, node=record_of(folder, 1).nodes[1]) >= 2
    began = time.monotonic()
    while time.monotonic() < began + 30:
        status = login.status("chain")
        assert status["not_known"] and status["step"] > saved
        assert [link["job_id"] for link in status["links"]] == jobs
        assert status["links"][2]["stage"] == "unknown"
    login.cluster.start_part("slurmctld")

    status = login.wait_for_end("chain", 400)
    assert status["state"] == "done", login.logs()
    assert [link["exit_code"] for link in status["links"]] == [3, 4, 0]
    assert job_states(login.cluster, jobs) == ["FAILED", "FAILED", "COMPLETED"]
    assert record_of(folder, 1).checkpoint_before == saved < (record_of(folder, 2).checkpoint_before or 0)
    assert steps_of(folder) == list(range(1, 101))


def test_a_link_that_does_not_heed_its_walltime_is_killed_and_the_next_goes_on(login: LoginNode) -> None:
    jobs = login.submit("deaf", "--links", "2", "train.train_samples=640", "checkpoint.interval=10")
    login.wait_for_step("deaf", 12)
    assert login.signal_processes(jobs[0], signal.SIGSTOP) >= 4
    reached = saved_step(login.folder("deaf"))
    login.cluster.run(["scontrol", "update", f"JobId={jobs[0]}", "TimeLimit=1"])
    # Again and again, since SLURM sends SIGCONT with its SIGTERM; until SIGKILL leaves none.
    wait_until(lambda: login.signal_processes(jobs[0], signal.SIGSTOP) == 0, 240)
    status = login.wait_for_end("deaf")
    assert job_states(login.cluster, jobs) == ["TIMEOUT", "COMPLETED"], login.logs()
    assert "ran into its walltime" in status["links"][0]["words"]
    # Between SLURM's SIGCONT and the next SIGSTOP it may have come to save once more.
    assert (record_of(login.folder("deaf"), 1).checkpoint_before or 0) >= reached >= 10
    assert steps_of(login.folder("deaf")) == list(range(1, 81))


def test_a_preempted_link_saves_in_its_time_of_grace_and_goes_on_by_itself(
    slurm_with_preemption: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing but the preemption saves here, and there is no other link to go on."""
    login = LoginNode(slurm_with_preemption, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")
    jobs = login.submit(
        "preempted", "cluster.slurm.partition=scavenge", "train.train_samples=1600", "checkpoint.interval=0"
    )
    login.wait_for_step("preempted", 5)
    urgent = ["sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 2"]
    assert login.cluster.run(urgent).returncode == 0
    status = login.wait_for_end("preempted")
    assert status["state"] == "done" and status["links"][0]["restarts"] == 1, login.logs()
    assert job_states(login.cluster, jobs) == ["COMPLETED"]
    assert steps_of(login.folder("preempted")) == list(range(1, 201))


def test_a_node_whose_launcher_never_starts_ends_the_job_with_its_name(login: LoginNode, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$SLURMD_NODENAME" = node2 ] && exit 127\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    setup = 'cluster.slurm.setup=["export QAD_ARRIVAL_SECONDS=5"]'
    jobs = login.submit("absent", LONG, f"cluster.container.python={python}", setup, "cluster.slurm.requeue=false")
    status = login.wait_for_end("absent", 180)
    assert job_states(login.cluster, jobs) == ["FAILED"]
    assert status["links"][0]["exit_code"] == 4
    assert "Node 1 (node2) has not started its launcher" in status["words"], status


def test_a_chain_survives_a_killed_node_and_a_cancelled_middle_link(login: LoginNode) -> None:
    """Link 2 is cancelled while link 1 runs: link 3 must wait on. Node 2 crashes, and SLURM starts link 1 again."""
    jobs = login.submit("crash", "--links", "3", "train.train_samples=960", "checkpoint.interval=10")
    login.wait_for_step("crash", 15)
    login.cluster.run(["scancel", jobs[1]])
    assert [link["stage"] for link in login.status("crash")["links"]] == ["running", "ended", "pending"]
    login.cluster.crash("node2")
    login.cluster.start_part("node2")
    status = login.wait_for_end("crash", 600)
    assert status["state"] == "done", login.logs()
    assert steps_of(login.folder("crash")) == list(range(1, 121))
    assert [link["restarts"] for link in status["links"]] == [1, 0, 0]


def test_a_controller_that_is_down_for_a_minute_costs_no_job_and_no_knowledge(login: LoginNode) -> None:
    (running,) = login.submit("down", LONG, "checkpoint.interval=10")
    login.wait_for_step("down", 3)
    login.cluster.stop("slurmctld")
    submission = login.start(*login.submit_arguments("second", "train.train_samples=64"))
    began = time.monotonic()
    while time.monotonic() < began + 60:
        status = login.status("down")
        (link,) = status["links"]
        assert link["stage"] == "unknown" and link["job_id"] == running and status["not_known"]
        assert status["state"] in ("running", "unknown") and status["step"] >= 3  # status.json goes on telling
    login.cluster.start_part("slurmctld")
    output, _ = submission.communicate(timeout=300)
    assert submission.returncode == 0, output
    assert "does not answer" in output
    (second,) = [link["job_id"] for link in login.status("second")["links"]]
    assert jobs_of(login, "second") == [second]
    login.run("cancel", str(login.folder("down")), "--chain", "--now")
    assert login.wait_for_end("second", 300)["state"] == "done"


def test_an_answer_of_sbatch_that_got_lost_makes_no_second_job(login: LoginNode) -> None:
    """slurmctld hangs while sbatch waits; the job comes to be only when it goes on, after sbatch has given up."""
    called = hang_at_sbatch(login)
    submission = login.start(*login.submit_arguments("lost", "train.train_samples=64"))
    wait_for_file(called)
    time.sleep(15)  # sbatch gives up after MessageTimeout, 10 s
    login.cluster.resume("slurmctld")
    output, _ = submission.communicate(timeout=300)
    assert submission.returncode == 0, output
    assert "Looking for the job before another try" in output and "SLURM has it: job" in output
    assert len(jobs_of(login, "lost")) == 1
    assert login.wait_for_end("lost")["state"] == "done"


def test_a_submission_that_was_killed_itself_is_cleared_up_by_the_next(login: LoginNode) -> None:
    called = hang_at_sbatch(login)
    submission = login.start(*login.submit_arguments("killed", "train.train_samples=64"))
    wait_for_file(called)
    submission.kill()  # sbatch itself lives on
    submission.wait()
    login.cluster.resume("slurmctld")
    login.wait("killed", lambda status: jobs_of(login, "killed"), 60)
    assert login.status("killed")["links"][0]["stage"] in ("lost", "running", "unknown")
    again = login.run(*login.submit_arguments("killed", "train.train_samples=64"))
    assert again.returncode == 2 and "in the queue already" in again.stderr, again.stdout
    assert len(jobs_of(login, "killed")) == 1
    assert login.wait_for_end("killed")["state"] == "done"


def test_a_crash_loop_does_not_burn_the_allocation(login: LoginNode) -> None:
    """Every link fails at once: the first takes the others with it."""
    jobs = login.submit("loop", "--links", "4", "train.train_samples=64", "cluster.threads_per_process=1")
    login.folder("loop").joinpath("config.yaml").write_text("model: broken\n")
    status = login.wait_for_end("loop", 120)
    assert [link["stage"] for link in status["links"]] == ["ended"] * 4
    assert job_states(login.cluster, jobs) == ["FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]


def test_links_that_are_left_when_the_run_is_done_leave_the_queue(login: LoginNode) -> None:
    jobs = login.submit("early", "--links", "3", "train.train_samples=64")
    status = login.wait_for_end("early")
    assert status["state"] == "done"
    assert job_states(login.cluster, jobs) == ["COMPLETED", "CANCELLED", "CANCELLED"]


def test_cancel_saves_first_and_the_chain_can_be_cancelled_whole(login: LoginNode) -> None:
    login.submit("cancel", "--links", "3", LONG, "checkpoint.interval=0")
    login.wait_for_step("cancel", 5)
    answer = login.json("cancel", str(login.folder("cancel")), "--chain")
    assert len(answer["data"]["stopping"]) == 1 and len(answer["data"]["cancelled"]) == 2
    status = login.wait_for_end("cancel", 120)
    assert status["state"] == "stopped" and status["checkpoint_step"] == status["step"] >= 5
    assert steps_of(login.folder("cancel"))[-1] == status["checkpoint_step"]
    assert status["cancelled"] is True and "cancelled by the user" in str(status["words"])


def hang_at_sbatch(login: LoginNode) -> Path:
    """Let slurmctld hang from the first real call of sbatch on, its trial excepted; the file that says it was made."""
    programs, called = login.root.parent / "bin", login.root.parent / "called"
    programs.mkdir()
    wrapper = programs / "sbatch"
    pid = (login.cluster.directory / "run/slurm/slurmctld.pid").read_text().strip()
    wrapper.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--test-only*) ;; *) [ -e {called} ] || {{ kill -STOP {pid}; touch {called}; }} ;; esac\n'
        f'exec {shutil.which("sbatch")} "$@"\n'
    )
    wrapper.chmod(0o755)
    login.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    return called


def wait_for_file(path: Path) -> None:
    wait_until(path.exists, 60)


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.02)


def saved_step(folder: Path) -> int:
    """Step of a run's newest checkpoint, 0 without one."""
    return newest_checkpoint_step(RunFolder(folder)) or 0


def record_of(folder: Path, link: int) -> Job:
    """A link's record in the run folder, counted from 0."""
    return read_jobs(folder / "jobs.jsonl")[link]


def jobs_of(login: LoginNode, tag: str) -> list[str]:
    """Ids of the jobs that SLURM has of a run's only submission, by its own word."""
    (job,) = read_jobs(login.folder(tag) / "jobs.jsonl")
    comment = f"qad:{job.id.removeprefix('slurm-')}"
    queue = login.cluster.run(["squeue", "-h", "-t", "all", "-O", "JobID:|,Comment:|"]).stdout.splitlines()
    return [line.split("|")[0] for line in queue if line.split("|")[1] == comment]
