"""What a run waits for, which folder is meant, and how a job ends that is in an odd state; on a real SLURM."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import SlurmCluster, make_directory
from tests.slurm.tiny_chain import LoginNode, job_states

SHORT_RUN = "train.train_samples=64"
LONG_RUN = "train.train_samples=4000"


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LoginNode:
    return LoginNode(slurm, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")


@pytest.fixture
def slow_start() -> Iterator[SlurmCluster]:
    """Two nodes that are made ready for ever for a job."""
    directory = make_directory()
    prolog, ready = directory / "prolog.sh", directory / "ready"
    prolog.write_text(f"#!/bin/sh\nuntil [ -e {ready} ]; do sleep 0.2; done\n")
    prolog.chmod(0o755)
    cluster = SlurmCluster.start(directory, nodes=2, accounting="none", extra_conf=f"PrologSlurmctld={prolog}")
    yield cluster
    ready.touch()
    cluster.down()


def test_a_run_starts_once_another_is_done_though_the_links_left_of_that_are_cancelled(login: LoginNode) -> None:
    first = login.submit("a", SHORT_RUN, "--links", "3")
    (second,) = login.submit("b", SHORT_RUN, "--after", f"afterok:{login.folder('a')}")
    never = ("--after", f"afternotok:{login.folder('a')}")
    assert login.run(*login.submit_arguments("c", SHORT_RUN, *never)).returncode == 0
    assert login.wait_for_end("a")["state"] == "done"
    assert job_states(login.cluster, first) == ["COMPLETED", "CANCELLED", "CANCELLED"]
    assert login.wait_for_end("b")["state"] == "done", login.logs()
    assert job_states(login.cluster, [second]) == ["COMPLETED"]
    assert login.status("c")["state"] == "blocked"
    at_once = login.run(*login.submit_arguments("d", SHORT_RUN, "--after", f"afterok:{login.folder('a')}", "--dry-run"))
    assert at_once.returncode == 0 and "is done already" in at_once.stderr
    assert "--dependency" not in at_once.stdout
    refused = login.run(*login.submit_arguments("d", SHORT_RUN, *never))
    assert refused.returncode == 2 and "can never be met" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--after", "afterok:0"), "no job has that number"),
        (("--after", "afterok:4294967295"), "no job has that number"),
        (("--seconds-per-iteration", "inf"), "--seconds-per-iteration is inf"),
        (("--seconds-per-iteration", "nan"), "--seconds-per-iteration"),
        (("--seconds-per-iteration", "1e308", "--until-done"), "does not fit into a walltime"),
        (("--patience", "nan"), "--patience"),
    ],
)
def test_a_number_that_is_none_is_a_users_error(login: LoginNode, arguments: tuple[str, ...], said: str) -> None:
    done = login.run(*login.submit_arguments("numbers", SHORT_RUN, *arguments))
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list(login.root.glob("*-numbers"))


def test_fresh_sets_a_run_aside_and_not_a_name_that_was_only_new(login: LoginNode) -> None:
    blocker = login.cluster.run(["sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 600"]).stdout.strip()
    login.submit("new", SHORT_RUN, "--fresh", "--after", f"afterany:{blocker}")
    assert [path.name for path in login.root.glob("*-new*")] == [login.folder("new").name]
    cancelled = login.run("cancel", str(login.folder("new")), "--chain")
    assert cancelled.returncode == 0, cancelled.stderr
    login.submit("new", SHORT_RUN, "--fresh", "--after", f"afterany:{blocker}")
    assert len(list(login.root.glob("*-new.old-*"))) == 1


def test_advice_names_the_run_so_that_its_command_can_be_pasted(login: LoginNode) -> None:
    login.root = login.root.parent / "my runs"
    blocker = login.cluster.run(["sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 600"]).stdout.strip()
    jobs = login.submit("advice", SHORT_RUN, "--links", "2", "--after", f"afterany:{blocker}")
    login.cluster.run(["scontrol", "hold", jobs[1]])  # else it starts when the first is cancelled
    one = login.run("cancel", str(login.folder("advice")))
    (line,) = (line for line in one.stdout.splitlines() if "to end all: qad_core" in line)
    rest = login.run(*shlex.split(line.partition("qad_core ")[2]))
    assert rest.returncode == 0, rest.stderr
    assert job_states(login.cluster, jobs) == ["CANCELLED", "CANCELLED"]


def test_a_run_folder_that_was_renamed_is_not_submitted_as_another(login: LoginNode) -> None:
    login.submit("old", SHORT_RUN)
    assert login.run("cancel", str(login.folder("old")), "--chain", "--now").returncode == 0
    renamed = login.folder("old").rename(login.root / "mine")
    done = login.run("submit", str(renamed))
    assert done.returncode == 2 and "was renamed" in done.stderr and "-old" in done.stderr
    moved = login.root.parent / "elsewhere" / done.stderr.split("its name ")[1].split()[0]
    moved.parent.mkdir()
    renamed.rename(moved)
    again = login.run("submit", str(moved))
    assert again.returncode == 2 and f"paths.checkpoint_root={moved.parent}" in again.stderr
    there = login.run("submit", str(moved), f"paths.checkpoint_root={moved.parent}", "--dry-run")
    assert there.returncode == 0 and f"run folder: {moved}" in there.stdout
    assert not list(login.root.glob("*-old"))


def test_a_job_that_is_suspended_is_left_alone_unless_nothing_is_to_be_saved(login: LoginNode) -> None:
    (job,) = login.submit("suspended", LONG_RUN)
    await_fact(lambda: job_states(login.cluster, [job]) == ["RUNNING"])
    login.cluster.run(["scontrol", "suspend", job])
    left = login.run("cancel", str(login.folder("suspended")))
    assert left.returncode == 2 and "is suspended" in left.stdout and job_states(login.cluster, [job]) == ["SUSPENDED"]
    assert login.json("cancel", str(login.folder("suspended")), "--now")["data"]["cancelled"] == [job]
    await_fact(lambda: job_states(login.cluster, [job]) == ["CANCELLED"])


def test_a_job_whose_nodes_are_made_ready_is_cancelled_at_once(
    slow_start: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    login = LoginNode(slow_start, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")
    (job,) = login.submit("ready", SHORT_RUN)
    await_fact(lambda: job_states(login.cluster, [job]) == ["CONFIGURING"])
    assert login.json("cancel", str(login.folder("ready")))["data"]["cancelled"] == [job]
    await_fact(lambda: job_states(login.cluster, [job]) == ["CANCELLED"])


def await_fact(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.3)
