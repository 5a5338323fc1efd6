"""`qad_core queue` on a real SLURM: what it shows, and what it does to one's own jobs and never to others'."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qad_core.slurm.client import SlurmClient
from qad_core.slurm.queue_actions import act_on_jobs
from tests.slurm.cluster import SlurmCluster
from tests.slurm.test_client import client_of
from tests.slurm.tiny_chain import LoginNode, job_states

UNKNOWN = "999999"


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LoginNode:
    return LoginNode(slurm, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")


def submit(cluster: SlurmCluster, *options: str, command: str = "sleep 300") -> str:
    """A job of ours that is no link of a run."""
    done = cluster.run(["sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", command])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def await_true(fact: Callable[[], object], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_queue_shows_jobs_in_words_with_the_run_that_they_belong_to(login: LoginNode) -> None:
    blocker = submit(login.cluster, "--hold", "--job-name=blocker")
    first, second = login.submit("shown", "--links", "2", "--after", f"afterany:{blocker}", "train.train_samples=64")
    answer = login.json("queue", "--root", str(login.root))["data"]
    jobs = {job["job_id"]: job for job in answer["jobs"]}
    assert jobs[blocker]["stage"] == "held" and jobs[blocker]["words"] == "it is held by its owner"
    assert jobs[first]["run"] == str(login.folder("shown")) and jobs[second]["link"] == 2
    assert f"until job {blocker} has ended" in jobs[first]["words"] and jobs[first]["mine"]
    assert {partition["name"] for partition in answer["partitions"]} and answer["partitions"][0]["gpus"] > 0
    shown = login.run("queue", "--root", str(login.root)).stdout
    assert login.folder("shown").name in shown and "1/2" in shown and "free GPUs" in shown


def test_jobs_are_held_released_requeued_and_cancelled(login: LoginNode) -> None:
    cluster = login.cluster
    job = submit(cluster, "--begin=now+1hour")
    assert login.json("queue", "hold", job)["data"][0]["words"] == "is held"
    assert login.json("queue")["data"]["jobs"][0]["stage"] == "held"
    assert login.json("queue", "release", job)["data"][0]["words"] == "is released"
    running = submit(cluster)
    await_true(lambda: job_states(cluster, [running]) == ["RUNNING"])
    assert "two minutes" in login.json("queue", "requeue", running)["data"][0]["words"]
    await_true(lambda: job_states(cluster, [running]) == ["PENDING"])
    done = login.run("queue", "cancel", job, running)
    assert done.returncode == 0 and done.stdout.count("is cancelled") == 2
    assert job_states(cluster, [job, running]) == ["CANCELLED", "CANCELLED"]


def test_what_cannot_be_done_is_said_job_by_job_and_the_rest_is_done(login: LoginNode) -> None:
    waiting = submit(login.cluster, "--begin=now+1hour")
    answer = login.json("queue", "requeue", waiting, UNKNOWN)
    assert not answer["ok"] and [one["done"] for one in answer["data"]] == [False, False]
    assert "is in the queue already" in answer["problems"][0]["what"]
    assert "does not know it" in answer["problems"][1]["what"]
    mixed = login.run("queue", "hold", waiting, UNKNOWN)
    assert mixed.returncode == 2 and f"job {waiting} is held" in mixed.stdout and UNKNOWN in mixed.stderr
    assert login.run("queue", "cancel", "all").returncode == 2


def test_jobs_of_others_are_left_alone(slurm: SlurmCluster) -> None:
    job = submit(slurm)
    client = client_of(slurm)
    (outcome,) = act_on_jobs(client, "cancel", [job], "somebody-else")
    assert not outcome.done and "only your own jobs" in outcome.words
    assert job_states(slurm, [job])[0] in ("PENDING", "RUNNING")


def test_a_running_link_is_told_to_save_and_not_killed(slurm: SlurmCluster, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    tmp_path.chmod(0o755)
    command = f"trap 'touch {saved}; exit 3' USR1; echo; while :; do sleep 0.2; done"
    job = submit(slurm, "--comment=qad:0123", command=command)
    client: SlurmClient = client_of(slurm)
    await_true(lambda: job_states(slurm, [job]) == ["RUNNING"])
    time.sleep(1)  # bash is there, and then its trap
    (outcome,) = act_on_jobs(client, "cancel", [job], client.queue([job])[0].user)
    assert outcome.words == "was told to save and stop"
    await_true(saved.exists)
    await_true(lambda: job_states(slurm, [job]) == ["FAILED"])


def test_a_controller_that_is_down_is_an_error_and_no_empty_queue(login: LoginNode) -> None:
    login.cluster.stop("slurmctld")
    done = login.run("queue")
    assert done.returncode == 4 and "does not answer" in done.stderr and "no jobs" not in done.stdout
