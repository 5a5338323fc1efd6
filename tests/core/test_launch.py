"""Launching: the plan, the ranks' environment, exit codes, signals, locks and ports, with real processes."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import psutil
import pytest

from qad_core.config.data_paths import dataset_blend_path
from qad_core.config.load import load_experiment
from qad_core.config.schema import ClusterConfig
from qad_core.errors import BusyError, ConfigError, ExitCode, OutsideError, RunError
from qad_core.launch import processes
from qad_core.launch.lock import locked_folder
from qad_core.launch.machines import open_meeting
from qad_core.launch.peers import Peers
from qad_core.launch.plan import SPARE_PORTS, LaunchPlan, choose_rendezvous, make_plan, rank_settings
from qad_core.launch.ports import choose_port
from qad_core.launch.run_local import run_local, set_aside
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import read_jobs
from qad_core.run.status import read_status
from tests.core.fake_run import fake_plan, start_launcher, wait_for_rank


@pytest.fixture(autouse=True)
def configs_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


@contextlib.contextmanager
def listener_at(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.bind(("", port))
        listener.listen()
        yield


def job_on_two_nodes(folder: Path) -> tuple[LaunchPlan, Peers]:
    environ = {"SLURM_JOB_ID": "7", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(choose_port(0))}
    config = load_experiment("tiny", ["cluster.kind=slurm", "cluster.nodes=2"], {}).config
    return make_plan(config, folder, environ), Peers(folder, "7.0", 0, ("node1", "node2"))


def run_ranks(folder: Path, mode: str, count: int) -> int:
    plan, resolved = fake_plan(folder, mode, count)
    return run_local(plan, resolved, each_poll=lambda: None).exit_code


def test_a_run_in_its_middle_keeps_its_tokens_and_every_other_start_looks_at_them(tmp_path: Path) -> None:
    config = load_experiment("tiny", [f"paths.data_cache={tmp_path}"], {}).config
    folder = RunFolder(tmp_path / "run")
    blend = dataset_blend_path(config.dataset, config.model, config.paths)
    tracker = folder.tracker(config.model.name)
    for path in (blend, tracker):
        assert make_plan(config, folder.path, {}).prepare is not None
        path.parent.mkdir(parents=True)
        path.touch()
    assert make_plan(config, folder.path, {}).prepare is None


def test_a_datablend_of_ones_own_is_never_prepared(tmp_path: Path) -> None:
    blend = tmp_path / "blend.json"
    missing = load_experiment("tiny", [f"paths.data_cache={tmp_path}"], {}).config
    there = load_experiment("tiny", [f"dataset.blend={blend}"], {}).config
    blend.write_text("{}")
    plan = make_plan(missing, tmp_path / "run", {})
    assert plan.prepare is not None and plan.prepare[-1] == str(tmp_path / "run/config.yaml")
    assert make_plan(there, tmp_path / "run", {}).prepare is None


def test_a_slurm_cluster_is_not_mistaken_for_this_machine(tmp_path: Path) -> None:
    config = load_experiment("tiny", ["cluster.kind=slurm", f"paths.data_cache={tmp_path}"], {}).config
    with pytest.raises(ConfigError, match="SLURM"):
        make_plan(config, tmp_path / "run", {})


@pytest.mark.parametrize(
    ("cluster", "environ", "threads"),
    [
        (ClusterConfig(processes_per_node=2), {}, "4"),
        (ClusterConfig(processes_per_node=16), {}, "1"),
        (ClusterConfig(processes_per_node=2, threads_per_process=3), {"OMP_NUM_THREADS": "5"}, "3"),
        (ClusterConfig(processes_per_node=2), {"OMP_NUM_THREADS": "5"}, None),
    ],
)
def test_ranks_share_the_cores_unless_somebody_said_otherwise(
    cluster: ClusterConfig, environ: dict[str, str], threads: str | None
) -> None:
    assert rank_settings(cluster, environ, cores=8).get("OMP_NUM_THREADS") == threads


def test_a_cpu_run_hides_the_gpus() -> None:
    assert rank_settings(ClusterConfig(device="cpu"), {}, cores=1)["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in rank_settings(ClusterConfig(), {}, cores=1)


def test_several_machines_need_to_know_where_they_meet() -> None:
    with pytest.raises(ConfigError, match="NODE_RANK, MASTER_ADDR, MASTER_PORT is not set"):
        choose_rendezvous(ClusterConfig(nodes=2), {})
    with pytest.raises(ConfigError, match="NODE_RANK is '2'"):
        choose_rendezvous(ClusterConfig(nodes=2, master_port=1), {"NODE_RANK": "2", "MASTER_ADDR": "a"})


def test_ranks_get_the_environment_of_torchrun(tmp_path: Path) -> None:
    assert run_ranks(tmp_path, "exit=0:0,1:0", 2) == ExitCode.DONE
    ranks = [wait_for_rank(tmp_path, rank) for rank in (0, 1)]
    assert [(rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"]) for rank in ranks] == [
        ("0", "0", "2"),
        ("1", "1", "2"),
    ]
    assert ranks[0]["MASTER_PORT"] == ranks[1]["MASTER_PORT"] != "0"


@pytest.mark.parametrize(
    ("mode", "code"),
    [("exit=0:0,1:0", 0), ("exit=0:3,1:3", 3), ("exit=0:0,1:3", 3), ("exit=0:2,1:2", 2), ("exit=0:3,1:1", 1)],
)
def test_the_exit_code_is_that_of_the_training(tmp_path: Path, mode: str, code: int) -> None:
    assert run_ranks(tmp_path, mode, 2) == code
    jobs = read_jobs(RunFolder(tmp_path).jobs)
    assert [job.exit_code for job in jobs] == [code]


def test_when_one_rank_fails_the_others_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    began = time.monotonic()
    assert run_ranks(tmp_path, "exit=1:4", 2) == ExitCode.OUTSIDE_FAILED
    assert time.monotonic() - began < 20
    status = read_status(RunFolder(tmp_path).status)
    assert status is not None and (status.phase, status.error) == ("failed", "rank 1 ended with exit code 4")


def test_a_rank_killed_from_outside_is_told_apart_from_a_crash() -> None:
    assert processes.exit_code_of(-signal.SIGKILL) == ExitCode.OUTSIDE_FAILED
    assert processes.exit_code_of(-signal.SIGSEGV) == ExitCode.BUG


def test_what_a_failed_rank_printed_is_kept(tmp_path: Path) -> None:
    plan, resolved = fake_plan(tmp_path, "print")
    ending = run_local(plan, resolved, each_poll=lambda: None)
    assert ending.exit_code == ExitCode.BUG
    assert ending.output.read_text() == "words of a rank\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_ranks_which_save_and_stop(tmp_path: Path, number: int) -> None:
    launcher = start_launcher(tmp_path, "save", 2)
    wait_for_rank(tmp_path, 0)
    wait_for_rank(tmp_path, 1)
    launcher.send_signal(number)
    assert launcher.wait(20) == ExitCode.STOPPED_EARLY


def test_a_stop_before_the_ranks_listen_is_a_stop_and_no_failure(tmp_path: Path) -> None:
    launcher = start_launcher(tmp_path, "deaf")
    wait_for_rank(tmp_path)
    launcher.terminate()
    assert launcher.wait(20) == ExitCode.STOPPED_EARLY
    status = read_status(RunFolder(tmp_path).status)
    assert status is not None and (status.phase, status.reason) == ("stopped", "SIGTERM")


def test_ranks_end_with_their_killed_launcher_and_the_folder_is_free_again(tmp_path: Path) -> None:
    launcher = start_launcher(tmp_path, "save")
    rank = psutil.Process(int(wait_for_rank(tmp_path)["pid"]))
    launcher.kill()
    launcher.wait()
    rank.wait(20)
    assert run_ranks(tmp_path, "exit=0:0", 1) == ExitCode.DONE


def test_a_second_start_of_a_running_run_is_refused(tmp_path: Path) -> None:
    first = start_launcher(tmp_path, "save")
    wait_for_rank(tmp_path)
    with pytest.raises(RunError, match=f"running already .*pid {first.pid}"):
        run_ranks(tmp_path, "exit=0:0", 1)
    with pytest.raises(RunError, match="running already"):
        set_aside(RunFolder(tmp_path))
    first.terminate()
    assert first.wait(20) == ExitCode.STOPPED_EARLY


def test_starting_over_moves_the_old_run_aside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run_ranks(folder, "exit=0:0", 1) == ExitCode.DONE
    (folder / "mine.txt").write_text("kept")
    plan, resolved = fake_plan(folder, "exit=0:0")
    run_local(plan, resolved, fresh=True, each_poll=lambda: None)
    (aside,) = tmp_path.glob("run.old-*")
    assert (aside / "mine.txt").read_text() == "kept"
    assert len(read_jobs(RunFolder(folder).jobs)) == 1


def test_a_port_that_is_taken_is_the_users_to_change() -> None:
    taken = choose_port(0)
    with listener_at(taken), pytest.raises(RunError, match=f"The port {taken} is taken") as caught:
        choose_port(taken)
    assert caught.value.exit_code == ExitCode.USER_ERROR
    assert choose_port(0) > 0


def test_a_job_takes_another_port_when_the_one_of_its_id_is_taken(tmp_path: Path) -> None:
    plan, peers = job_on_two_nodes(tmp_path)
    with listener_at(plan.rendezvous.port):
        port = open_meeting(plan, peers)
    assert plan.rendezvous.port < port <= plan.rendezvous.port + SPARE_PORTS and peers.port() == port


def test_a_port_that_was_named_and_is_taken_is_no_wrong_input_in_a_job(tmp_path: Path) -> None:
    """The next link runs elsewhere or later; exit code 2 would stop the chain."""
    plan, peers = job_on_two_nodes(tmp_path)
    plan = dataclasses.replace(plan, rendezvous=dataclasses.replace(plan.rendezvous, spare_ports=0))
    with listener_at(plan.rendezvous.port), pytest.raises(OutsideError, match="is taken") as caught:
        open_meeting(plan, peers)
    assert caught.value.exit_code == ExitCode.OUTSIDE_FAILED


def test_a_job_waits_for_a_folder_that_is_still_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    holder = start_launcher(tmp_path, "save")
    wait_for_rank(tmp_path)
    Timer(1.0, holder.terminate).start()
    with locked_folder(folder, patience_seconds=30):
        assert f"running already (host {socket.gethostname()}, pid {holder.pid})" in capsys.readouterr().out
    holder.wait()


def test_a_folder_that_stays_held_is_no_wrong_input_in_a_job(tmp_path: Path) -> None:
    with locked_folder(RunFolder(tmp_path)), pytest.raises(BusyError, match="Waited 1 s") as caught:
        with locked_folder(RunFolder(tmp_path), patience_seconds=0.1):
            pass
    assert caught.value.exit_code == ExitCode.OUTSIDE_FAILED


def test_two_machines_meet_by_environment_alone(tmp_path: Path) -> None:
    port = str(choose_port(0))
    common = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    second = start_launcher(tmp_path, "save", 1, NODE_RANK="1", **common)
    first = start_launcher(tmp_path, "save", 1, NODE_RANK="0", **common)
    assert wait_for_rank(tmp_path, 0)["WORLD_SIZE"] == "2"
    time.sleep(0.5)
    assert not (tmp_path / "rank1.json").exists(), "machine 1 must wait until machine 0 listens"
    with socket.socket() as meeting:
        meeting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        meeting.bind(("127.0.0.1", int(port)))
        meeting.listen()
        assert wait_for_rank(tmp_path, 1)["RANK"] == "1"
    for launcher in (first, second):
        launcher.terminate()
        assert launcher.wait(20) == ExitCode.STOPPED_EARLY


def test_a_folder_that_cannot_be_written_to_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plan, resolved = fake_plan(tmp_path / "file" / "run", "exit=0:0")
    with pytest.raises(RunError, match="cannot be written to") as caught:
        run_local(plan, resolved, each_poll=lambda: None)
    assert "checkpoint_root" in caught.value.hint


@pytest.mark.parametrize("name", ["config.yaml", "logs", "checkpoints", "tensorboard", "jobs.jsonl", "status.json"])
def test_what_stands_in_the_way_is_found_before_the_ranks_start(tmp_path: Path, name: str) -> None:
    if name in ("logs", "checkpoints", "tensorboard"):
        (tmp_path / name).write_text("a file in a folder's place")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(RunError, match=f"{name}.* cannot be used"):
        run_ranks(tmp_path, "exit=0:0", 1)
    assert not (tmp_path / "rank0.json").exists()


def test_the_run_folder_says_what_was_started(tmp_path: Path) -> None:
    assert run_ranks(tmp_path, "exit=0:0", 1) == ExitCode.DONE
    folder = RunFolder(tmp_path)
    assert "name: tiny # file configs/models/tiny.yaml" in folder.config.read_text()
    assert "fingerprint" in json.loads(folder.identity.read_text())
    (job,) = read_jobs(folder.jobs)
    assert job.pid == os.getpid() and job.started is not None and job.ended is not None and job.ended >= job.started


def test_a_failed_preparation_ends_the_start_with_its_own_words_and_code(tmp_path: Path) -> None:
    plan, resolved = fake_plan(tmp_path, "exit=0:0")
    program = "import sys; print('12 documents'); print('error: too small: 3 tokens\\n  Give more.'); sys.exit(2)"
    plan = dataclasses.replace(plan, prepare=(sys.executable, "-c", program))
    ending = run_local(plan, resolved, each_poll=lambda: None)
    assert (ending.exit_code, ending.error, ending.hint) == (2, "too small: 3 tokens", "Give more.")
    assert not (tmp_path / "rank0.json").exists()
    status = read_status(RunFolder(tmp_path).status)
    assert status is not None and (status.phase, status.error) == ("failed", "too small: 3 tokens")


def test_a_full_disk_is_no_bug_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_to_full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("qad_core.launch.run_local.write_identity", write_to_full_disk)
    with pytest.raises(OutsideError, match="No space left") as caught:
        run_ranks(tmp_path, "exit=0:0", 1)
    assert caught.value.exit_code == ExitCode.OUTSIDE_FAILED
