"""The batch script: what it asks for, what it runs, and what it never holds."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qad_core.config.load import load_experiment
from qad_core.config.schema import RunConfig
from qad_core.launch.sbatch import BatchJob, batch_options, make_script, step_command
from qad_core.run.folder import RunFolder

CLUSTER = (
    "cluster.kind=slurm", "cluster.nodes=4", "cluster.processes_per_node=8", "cluster.device=cuda",
    "cluster.slurm.partition=batch", "cluster.slurm.account=research",
)  # fmt: skip


@pytest.fixture(autouse=True)
def configs_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


def config_of(*overrides: str) -> RunConfig:
    return load_experiment("tiny", [*CLUSTER, "paths.checkpoint_root=/data/runs", *overrides], {}).config


def job_of(config: RunConfig, name: str = "run") -> BatchJob:
    return BatchJob(RunFolder(config.paths.checkpoint_root / name), "c0ffee", "2026-11-25_12-00-00", Path("/home/me"))


def options_of(*overrides: str) -> list[str]:
    config = config_of(*overrides)
    return batch_options(config, job_of(config))


def command_of(*overrides: str) -> list[str]:
    config = config_of(*overrides)
    return shlex.split(" ".join(step_command(config, job_of(config).folder)))


def test_sbatch_is_asked_for_what_the_cluster_section_says() -> None:
    options = options_of(
        "cluster.slurm.qos=high", "cluster.slurm.time_limit=1-0", "cluster.slurm.gpu_type=h100",
        "cluster.slurm.memory=0", "cluster.slurm.exclusive=true", "cluster.slurm.cpus_per_task=64",
        "cluster.slurm.extra_options=[--reservation=week12]",
    )  # fmt: skip
    for option in (
        "--nodes=4", "--ntasks-per-node=1", "--partition=batch", "--account=research", "--qos=high", "--time=1-0",
        "--gpus-per-node=h100:8", "--mem=0", "--exclusive", "--cpus-per-task=64", "--signal=B:USR1@600",
        "--requeue", "--open-mode=append", "--reservation=week12", "--chdir=/home/me",
    ):  # fmt: skip
        assert option in options


def test_what_is_not_set_is_not_passed() -> None:
    options = " ".join(options_of("cluster.slurm.account=null", "cluster.slurm.requeue=false"))
    for name in ("--account", "--qos", "--mem", "--exclusive", "--cpus-per-task"):
        assert name not in options
    assert "--no-requeue" in options


def test_logs_keep_the_names_of_the_scripts() -> None:
    options = options_of()
    name = "research-tiny-Teacher-tiny-Data-made-text-lr0.0003"
    assert f"--job-name={name}" in options
    assert f"--output=/data/runs/logs_slurm/{name}_%j_2026-11-25_12-00-00.log" in options
    assert f"--error=/data/runs/logs_slurm/err_{name}_%j_2026-11-25_12-00-00.log" in options


def test_a_cpu_job_asks_for_no_gpus() -> None:
    assert not [option for option in options_of("cluster.device=cpu") if "gpu" in option]


def test_each_node_gets_one_launcher() -> None:
    command = command_of("cluster.slurm.cpus_per_task=64")
    assert command[0] == "srun" and "--ntasks-per-node=1" in command and "--cpus-per-task=64" in command
    assert command[-4:] == [sys.executable, "-m", "qad_core.launch", "/data/runs/run"]


def test_pyxis_runs_the_launcher_in_its_container() -> None:
    command = command_of(
        "cluster.container.runtime=pyxis", "cluster.container.image=/images/torch 25.sqsh",
        "cluster.container.mounts=[/data:/data,/home/me:/home/me]", "cluster.container.workdir=/data",
        "cluster.container.options=[--no-container-mount-home]",
    )  # fmt: skip
    for option in (
        "--container-image=/images/torch 25.sqsh", "--container-mounts=/data:/data,/home/me:/home/me",
        "--container-workdir=/data", "--no-container-mount-home",
    ):  # fmt: skip
        assert option in command
    assert command[-4] == "python3"


def test_apptainer_runs_the_launcher_with_the_gpus() -> None:
    apptainer = ("cluster.container.runtime=apptainer", "cluster.container.image=/images/torch.sif")
    command = command_of(*apptainer, "cluster.container.mounts=[/data]", "cluster.container.python=/opt/bin/python")
    start = command.index("apptainer")
    assert command[start : start + 6] == ["apptainer", "exec", "--nv", "--bind", "/data", "/images/torch.sif"]
    assert command[start + 6] == "/opt/bin/python"
    assert "--nv" not in command_of(*apptainer, "cluster.device=cpu")


def test_names_with_blanks_and_quotes_stay_one_word_of_the_script(tmp_path: Path) -> None:
    config = config_of(f"paths.checkpoint_root={tmp_path}/my runs $(touch {tmp_path}/pwned)")
    script = tmp_path / "job.sh"
    script.write_text(make_script(config, job_of(config)))
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    line = next(line for line in script.read_text().splitlines() if "qad_core.launch" in line)
    assert shlex.split(line.removesuffix("&"))[-1] == str(job_of(config).folder.path)


def test_setup_lines_stand_before_the_start_as_they_are() -> None:
    config = config_of('cluster.slurm.setup=["module load cuda/12.8", "ulimit -n 65536"]')
    script = make_script(config, job_of(config))
    assert "\nmodule load cuda/12.8\nulimit -n 65536\n" in script
    assert script.index("ulimit") < script.index("srun ")


def test_a_job_goes_back_into_the_queue_after_a_preemption_only_where_it_may() -> None:
    for requeue in (True, False):
        config = config_of(f"cluster.slurm.requeue={str(requeue).lower()}")
        assert ("scontrol requeue" in make_script(config, job_of(config))) == requeue


def test_bash_reads_the_script_without_a_word(tmp_path: Path) -> None:
    config = config_of('cluster.slurm.setup=["module load cuda"]')
    script = tmp_path / "job.sh"
    script.write_text(make_script(config, job_of(config)))
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
