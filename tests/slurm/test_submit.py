"""Submitting on a real SLURM: what is refused and why, what waits for ever, what is shown and what never is."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks import find_free_port
from tests.slurm.cluster import SlurmCluster
from tests.slurm.tiny_chain import REPOSITORY, LoginNode, job_states, losses_of
from tests.train.tiny_run import SHORT

SECRET = "hf_" + "Zq8" * 11
SHORT_RUN = "train.train_samples=64"
LARGE_BATCH = ("train.global_batch_size=80", "train.train_samples=800")
"""Also for 40 nodes."""


@pytest.fixture
def login(slurm: SlurmCluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LoginNode:
    return LoginNode(slurm, tmp_path / "runs", tmp_path_factory.getbasetemp() / "data")


def test_a_job_of_four_nodes_trains_as_four_ranks_here_do(login: LoginNode) -> None:
    layout = ("cluster.nodes=4", *SHORT, "train.precision=fp32")
    login.submit("four", *layout)
    status = login.wait_for_end("four")
    assert status["state"] == "done", login.logs()
    assert status["links"][0]["exit_code"] == 0
    local = login.run(
        "train", "tiny", "cluster=local-4-ranks", "parallelism=dp2", *layout[1:], "cluster.device=cpu",
        f"paths.checkpoint_root={login.root}", f"paths.data_cache={login.data_cache}", "--tag", "here",
    )  # fmt: skip
    assert local.returncode == 0, local.stderr
    assert losses_of(login.folder("four")) == pytest.approx(losses_of(login.folder("here")), rel=1e-5)


def test_a_launch_by_hand_on_each_node_works_as_the_scripts_said(login: LoginNode) -> None:
    login.submit_arguments("hand")
    arguments = ["train", *login.submit_arguments("hand", *SHORT)[1:]]
    meeting = {"NNODES": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(find_free_port())}
    nodes = []
    for node_rank in ("0", "1"):
        login.environ = {**meeting, "NODE_RANK": node_rank}
        nodes.append(login.start(*arguments))
    outputs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    login.environ = {}
    assert login.status("hand")["state"] == "done"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("cluster.slurm.partition=nope", "cluster.slurm.partition"),
        ("cluster.slurm.account=nope", "cluster.slurm.account"),
        ("cluster.slurm.qos=nope", "cluster.slurm.qos"),
        ("cluster.slurm.gpus_per_node=9", "gpus_per_node"),
        ("cluster.slurm.gpu_type=b200", "gpu"),
        ("cluster.nodes=40", "cluster.nodes"),
        ("cluster.slurm.partition=drain", "cluster.slurm.partition"),
    ],
)
def test_what_slurm_refuses_is_named_by_its_key_and_leaves_nothing(login: LoginNode, override: str, key: str) -> None:
    more = ("cluster.slurm.gpus_per_node=1",) if "gpu_type" in override else ()
    done = login.run(*login.submit_arguments("refused", override, *more, *LARGE_BATCH))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert key in done.stderr and "Traceback" not in done.stderr
    assert not list(login.root.glob("*-refused"))
    assert login.cluster.run(["squeue", "-h"]).stdout == ""


def test_a_time_limit_over_that_of_the_qos_is_refused(login: LoginNode) -> None:
    done = login.run(
        *login.submit_arguments("long", "cluster.slurm.qos=short", "cluster.slurm.time_limit=10:00:00", SHORT_RUN)
    )
    assert done.returncode == 2 and "cluster.slurm.time_limit" in done.stderr, done.stderr


def test_a_job_that_is_accepted_and_can_never_start_is_said_to_be_so(login: LoginNode) -> None:
    arguments = login.submit_arguments(
        "forever", "cluster.slurm.partition=debug", "cluster.nodes=1", "cluster.slurm.time_limit=5:00:00", SHORT_RUN
    )
    done = login.run(*arguments)
    assert done.returncode == 0 and "can never start" in done.stderr, (done.stdout, done.stderr)
    status = login.status("forever")
    assert status["state"] == "blocked" and status["links"][0]["never_starts"]
    assert f"qad_core cancel {login.folder('forever').name} --chain" in status["what_to_do"]


def test_a_dependency_that_can_never_be_met_is_refused_or_shown_with_the_way_out(login: LoginNode) -> None:
    failed = login.cluster.run(
        ["sbatch", "--parsable", "--output=/dev/null", "--wait", "--wrap", "exit 7"]
    ).stdout.split()[-1]
    refused = login.run(*login.submit_arguments("after", "--after", f"afterok:{failed}", SHORT_RUN))
    assert refused.returncode == 2 and "can never be met" in refused.stderr
    unknown = login.run(*login.submit_arguments("after", "--after", "afterok:999999", SHORT_RUN))
    assert unknown.returncode == 2 and "does not know" in unknown.stderr
    failing = login.cluster.run(
        ["sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 8; exit 7"]
    ).stdout.strip()
    login.submit("after", "--after", f"afterok:{failing}", SHORT_RUN)
    status = login.wait("after", lambda status: status["state"] == "blocked", 60)
    assert status["links"][0]["never_starts"] and "--chain" in status["what_to_do"]
    assert login.run("cancel", str(login.folder("after")), "--chain").returncode == 0
    assert login.wait_for_end("after", 30)["links"][0]["state"] == "CANCELLED"


def test_singleton_and_afternotok_reach_slurm(login: LoginNode) -> None:
    blocker = login.cluster.run(["sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 300"]).stdout.strip()
    login.submit("single", "--after", "singleton", SHORT_RUN)
    login.submit("notok", "--after", f"afternotok:{blocker}", SHORT_RUN)
    assert login.status("notok")["links"][0]["dependency"].startswith(f"afternotok:{blocker}")
    login.cluster.run(["scancel", blocker])
    assert login.wait_for_end("notok")["state"] == "done"
    assert login.wait_for_end("single")["state"] == "done"


def test_a_run_is_not_put_into_the_queue_twice(login: LoginNode) -> None:
    blocker = login.cluster.run(["sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 300"]).stdout.strip()
    (first,) = login.submit("twice", "--after", f"afterany:{blocker}", SHORT_RUN)
    again = login.run(*login.submit_arguments("twice", SHORT_RUN))
    assert again.returncode == 2 and f"in the queue already: job(s) {first}" in again.stderr
    changed = login.run(
        *login.submit_arguments("twice", SHORT_RUN, "--after", f"afterany:{first}", "train.micro_batch_size=1")
    )
    assert changed.returncode == 2 and "another config" in changed.stderr
    behind = login.json(
        "submit",
        str(login.folder("twice")),
        "--after",
        f"afterany:{login.folder('twice').name}",
        "--root",
        str(login.root),
    )
    assert behind["ok"], behind
    assert len(login.status("twice")["links"]) == 2


def test_a_dry_run_prints_the_script_that_sbatch_gets(login: LoginNode) -> None:
    shown = login.json(*login.submit_arguments("dry", SHORT_RUN, "--links", "2", "--dry-run"))["data"]
    assert not login.root.exists() and shown["jobs"] == []
    (job, _) = login.submit("dry", SHORT_RUN, "--links", "2")
    kept = login.cluster.run(["scontrol", "write", "batch_script", job, "-"]).stdout
    written = next(login.folder("dry").glob("slurm/*.sh")).read_text()
    assert kept.strip() == written.strip()
    assert without_tokens(written) == without_tokens(shown["script"])


def test_a_secret_reaches_the_job_and_nothing_else_that_a_run_leaves_behind(login: LoginNode) -> None:
    seen = login.root.parent / "seen"
    login.environ = {"HF_TOKEN": SECRET}
    setup = f'cluster.slurm.setup=["echo ${{#HF_TOKEN}} > {seen}"]'
    preview = login.run(*login.submit_arguments("secret", SHORT_RUN, setup, "--dry-run"))
    submitted = login.run(*login.submit_arguments("secret", SHORT_RUN, setup))
    assert submitted.returncode == 0, submitted.stderr
    (job,) = [link["job_id"] for link in login.status("secret")["links"]]
    shown = login.cluster.run(["scontrol", "show", "job", job, "-o"]).stdout
    kept = login.cluster.run(["scontrol", "write", "batch_script", job, "-"]).stdout
    login.wait_for_end("secret")
    status = login.run("status", str(login.folder("secret")))
    assert seen.read_text().strip() == str(len(SECRET))
    for text in (preview.stdout, preview.stderr, submitted.stdout, submitted.stderr, shown, kept, status.stdout):
        assert SECRET not in text
    accounted = (
        login.cluster.run(["sacct", "-j", job, "-o", "all", "-P"]).stdout
        + login.cluster.run(["sacct", "-B", "-j", job]).stdout
    )
    assert job in accounted and SECRET not in accounted
    leaks = [path for path in login.root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert leaks == []


def test_a_secret_that_is_written_into_the_config_is_refused(login: LoginNode) -> None:
    login.environ = {"HF_TOKEN": SECRET}
    for line in ("export HF_TOKEN=abcdefghijklmnop", f"curl -H x:{SECRET}"):
        done = login.run(*login.submit_arguments("leak", SHORT_RUN, f"cluster.slurm.setup=[{json.dumps(line)}]"))
        assert done.returncode == 2 and "batch script" in done.stderr and SECRET not in done.stdout + done.stderr


def test_the_exit_code_of_the_job_is_that_of_the_training(login: LoginNode) -> None:
    stopped = ("train.exit_iteration=3", "checkpoint.interval=0")
    (job,) = login.submit("exit", SHORT_RUN, *stopped)
    status = login.wait_for_end("exit")
    assert status["links"][0]["exit_code"] == 3 and status["state"] == "stopped"
    text = login.cluster.run(["scontrol", "show", "job", job, "-o"]).stdout
    assert "ExitCode=3:0" in text and job_states(login.cluster, [job]) == ["FAILED"]


def test_a_requeued_link_that_waits_is_in_the_queue_and_can_be_cancelled(login: LoginNode) -> None:
    (job,) = login.submit("again", "train.train_samples=4000", "checkpoint.interval=0")
    login.wait_for_step("again", 3)
    login.cluster.run(["scontrol", "requeue", job])
    login.wait("again", lambda status: status["links"][0]["stage"] == "pending", 60)
    second = login.run(*login.submit_arguments("again", "train.train_samples=4000", "checkpoint.interval=0"))
    assert second.returncode == 2 and "in the queue already" in second.stderr
    assert login.json("cancel", str(login.folder("again")), "--chain")["data"]["cancelled"] == [job]


def test_a_poll_of_two_hundred_jobs_is_one_squeue_and_half_a_second_of_cpu(login: LoginNode) -> None:
    blocker = login.cluster.run(["sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 600"]).stdout.strip()
    for number in range(10):
        login.submit(f"many{number}", "--links", "20", "--after", f"afterany:{blocker}", SHORT_RUN)
    counted = login.root / "bin"
    counted.mkdir()
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        real = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        wrapper = counted / name
        wrapper.write_text(f'#!/bin/sh\necho {name} >>{counted}/calls\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
    login.environ = {"PATH": f"{counted}:{os.environ['PATH']}"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = login.run("status", "--root", str(login.root), "--json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = json.loads(done.stdout)["data"]
    assert [len(run["links"]) for run in answer] == [20] * 10
    assert {run["state"] for run in answer} == {"queued"}
    assert (counted / "calls").read_text().split() == ["squeue"]
    # squeue and the interpreter's own start among it
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
    own = subprocess.run(
        [sys.executable, "-c", CPU_OF_POLL, str(login.root)],
        env={**os.environ, **login.cluster.environ}, cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(own.stdout) < 0.5


CPU_OF_POLL = """
import sys, time
from pathlib import Path
from qad_core.commands.outlook import view_runs
from qad_core.run.store import find_runs
began = time.process_time()
views, answers = view_runs(find_runs([Path(sys.argv[1])]), endings=False)
assert sum(len(view.links) for view in views) == 200 and not answers.silences
print(time.process_time() - began)
"""
"""CPU seconds of this process, without its children: our own part of a poll."""


def without_tokens(script: str) -> list[str]:
    """A script without its chain's token and the minute of its making."""
    return [
        line
        for line in script.splitlines()
        if not any(word in line for word in ("QAD_CHAIN=", "#SBATCH --output", "#SBATCH --error"))
    ]
