"""The test cluster itself: it is a real SLURM, breaks on request, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.ranks import find_free_port
from tests.slurm.cluster import SlurmCluster, make_directory


def wait_until(fact: Callable[[], bool], seconds: float = 60) -> None:
    """Fail unless the fact comes true in time."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def job_field(cluster: SlurmCluster, job: str, field: str) -> str:
    """What SLURM says of a job, as `squeue --Format` names it."""
    return cluster.run(["squeue", "-h", "-j", job, "-t", "all", "-O", f"{field}:|"]).stdout.strip().removesuffix("|")


def submit(cluster: SlurmCluster, *options: str) -> str:
    """The number of a job that sleeps, with a child that SLURM loses sight of, once it runs."""
    script = ["--wrap", "(setsid sleep 600 &) ; sleep 600"]
    job = cluster.run(["sbatch", "--parsable", "-o", "/dev/null", *options, *script]).stdout.strip()
    wait_until(lambda: job_field(cluster, job, "State") == "RUNNING")
    return job


def processes_of(directory: Path) -> list[str]:
    """The processes that were given the directory, by argument or environment."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        found += [process.name()] if any(str(directory) in word for word in words) else []
    return found


def test_four_nodes_run_a_step_with_their_own_gpus(slurm_without_accounting: SlurmCluster) -> None:
    step = 'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"'
    done = slurm_without_accounting.run(["srun", "-N4", "--ntasks-per-node=1", "--gpus-per-node=8", "bash", "-c", step])
    assert sorted(done.stdout.splitlines()) == [f"node{number} 0,1,2,3,4,5,6,7" for number in range(1, 5)], done.stderr


def test_the_ranks_of_four_nodes_meet(slurm_without_accounting: SlurmCluster) -> None:
    program = (
        "import os, torch, torch.distributed as dist\n"
        "os.environ.update(RANK=os.environ['SLURM_PROCID'], WORLD_SIZE=os.environ['SLURM_NTASKS'])\n"
        "dist.init_process_group('gloo')\n"
        "total = torch.tensor(float(dist.get_rank()))\n"
        "dist.all_reduce(total)\n"
        "print(total.item())\n"
    )
    meeting = ["env", "MASTER_ADDR=127.0.0.1", f"MASTER_PORT={find_free_port()}", sys.executable, "-c", program]
    done = slurm_without_accounting.run(["srun", "-N4", "--ntasks-per-node=1", *meeting])
    assert done.stdout.split() == ["6.0"] * 4, done.stderr


def test_accounting_remembers_a_job_and_enforces_limits(slurm: SlurmCluster) -> None:
    job = slurm.run(["sbatch", "--parsable", "--wait", "-o", "/dev/null", "--wrap", "exit 4"]).stdout.strip()
    show = ["sacct", "-nPX", "-j", job, "-o", "State,ExitCode"]
    wait_until(lambda: slurm.run(show).stdout.strip() == "FAILED|4:0")
    refused = slurm.run(["sbatch", "--qos=short", "--time=60", "--wrap", "true"])
    assert "QOSMaxWallDurationPerJobLimit" in refused.stderr


def test_without_accounting_sacct_has_nothing_to_say(slurm_without_accounting: SlurmCluster) -> None:
    assert "accounting storage is disabled" in slurm_without_accounting.run(["sacct"]).stderr


def test_a_crashed_node_requeues_its_job_or_ends_it(slurm_without_accounting: SlurmCluster) -> None:
    again = submit(slurm_without_accounting, "--nodelist=node2", "--requeue")
    never = submit(slurm_without_accounting, "--nodelist=node2", "--no-requeue")
    slurm_without_accounting.crash("node2")
    wait_until(lambda: job_field(slurm_without_accounting, never, "State") == "NODE_FAIL")
    wait_until(lambda: job_field(slurm_without_accounting, again, "State") == "PENDING")


def test_a_paused_controller_lets_squeue_time_out(slurm_without_accounting: SlurmCluster) -> None:
    slurm_without_accounting.pause("slurmctld")
    assert "Socket timed out" in slurm_without_accounting.run(["squeue"]).stderr
    slurm_without_accounting.resume("slurmctld")
    assert slurm_without_accounting.run(["squeue"]).returncode == 0


def test_the_next_test_finds_no_job_and_no_fault(slurm_without_accounting: SlurmCluster) -> None:
    submit(slurm_without_accounting)
    slurm_without_accounting.crash("node3")
    slurm_without_accounting.pause("node4")
    slurm_without_accounting.stop("slurmctld")
    slurm_without_accounting.stop("munged")
    slurm_without_accounting.restore()
    assert slurm_without_accounting.run(["sinfo", "-h", "-p", "gpu", "-o", "%D %T"]).stdout == "4 idle\n"
    assert slurm_without_accounting.run(["squeue", "-h"]).stdout == ""


def test_a_cluster_starts_beside_another_in_seconds_and_leaves_nothing(slurm_without_accounting: SlurmCluster) -> None:
    began = time.monotonic()
    other = SlurmCluster.start(make_directory(), nodes=2, accounting="none")
    assert time.monotonic() - began < 20
    submit(other, "-N2")
    assert slurm_without_accounting.run(["squeue", "-h"]).stdout == ""
    other.down()
    assert processes_of(other.directory) == [] and not other.directory.exists()


@pytest.mark.slurm
def test_a_cluster_ends_with_the_process_that_started_it() -> None:
    directory = make_directory()
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.slurm.cluster import SlurmCluster\n"
        "SlurmCluster.start(Path(sys.argv[1]), nodes=1, accounting='none')\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, env=os.environ)
    assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
    assert "slurmctld" in processes_of(directory)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_until(lambda: processes_of(directory) == [] and not directory.exists())
