"""What a start on this machine will do, decided before anything is done.

`make_plan` is pure but for one look at whether the tokens are there; `run_local.py` acts on the plan.
The ranks are started directly with torchrun's environment (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT) rather than by torchrun's agent: the agent hides exit codes (3 becomes 1), swallows
SIGUSR1, and costs an import of torch. `python -m qad_core.train` runs under torchrun all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qad_core.config.data_paths import dataset_blend_path
from qad_core.config.schema import ClusterConfig, RunConfig
from qad_core.errors import ConfigError
from qad_core.run.folder import RunFolder

KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(128 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""glibc keeps freed blocks of up to 128 MiB: handed back, each activation costs its page faults anew, which
made the demo's step on a CPU take 1.4 times as long."""


@dataclass(frozen=True)
class Rendezvous:
    """Where the ranks meet, and which machine this is."""

    nodes: int = 1
    """Machines in all."""
    node_rank: int = 0
    """This machine's number; machine 0 hosts the meeting point."""
    address: str = "127.0.0.1"
    """Host name of machine 0."""
    port: int = 0
    """TCP port on machine 0; 0 takes a free one at the start."""


@dataclass(frozen=True)
class LaunchPlan:
    """One start: the command of every rank here, its environment, and what goes before."""

    run_folder: RunFolder
    argv: tuple[str, ...]
    """Command of each rank."""
    prepare: tuple[str, ...] | None
    """Command that makes the tokens or finds them as they should be, null when a run goes on with its own."""
    processes: int
    """Ranks on this machine."""
    rendezvous: Rendezvous
    environment: Mapping[str, str]
    """Added to each rank's environment, beside what `rank_environment` adds."""
    meeting_seconds: float
    """How long another machine waits for machine 0."""

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.processes * self.rendezvous.nodes


def make_plan(
    config: RunConfig, run_folder: Path, environ: Mapping[str, str], *, evaluate_only: bool = False
) -> LaunchPlan:
    """Decide how a run starts here; `environ` gives NODE_RANK and MASTER_ADDR of a launch by hand on several machines.

    Raises ConfigError when several machines are asked for and one of those is missing, and for a SLURM cluster.
    """
    if config.cluster.kind == "slurm":
        raise ConfigError(
            f"The cluster {config.cluster.name} is a SLURM cluster, and only starts on this machine are known.",
            "Take cluster=local or another of kind local; inside an allocation, set cluster.kind=local.",
        )
    folder = RunFolder(run_folder)
    return LaunchPlan(
        run_folder=folder,
        argv=(
            sys.executable, "-m", "qad_core.train", str(run_folder), *(("--evaluate-only",) if evaluate_only else ()),
        ),
        prepare=prepare_argv(folder.config) if _needs_prepare(config, folder) else None,
        processes=config.cluster.processes_per_node,
        rendezvous=choose_rendezvous(config.cluster, environ),
        environment=rank_settings(config.cluster, environ, cores=len(os.sched_getaffinity(0))),
        meeting_seconds=60 * config.train.distributed_timeout_minutes,
    )  # fmt: skip


def _needs_prepare(config: RunConfig, folder: RunFolder) -> bool:
    """Whether tokens are to be made or held against their text, which may have changed; not in a run's middle."""
    if config.dataset.blend is not None:
        return False
    blend_is_there = dataset_blend_path(config.dataset, config.model, config.paths).is_file()
    return not (blend_is_there and folder.tracker(config.model.name).is_file())


def prepare_argv(config_file: Path) -> tuple[str, ...]:
    """Command that turns the text of a resolved config's dataset into tokens."""
    return (sys.executable, "-m", "qad_core.data", "prepare", str(config_file))


def choose_rendezvous(cluster: ClusterConfig, environ: Mapping[str, str]) -> Rendezvous:
    """The meeting point: on this machine for one machine, else as the environment names it."""
    if cluster.nodes == 1:
        return Rendezvous(port=cluster.master_port)
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR") if name not in environ]
    if cluster.master_port == 0:
        missing.append("MASTER_PORT")
    if missing:
        raise ConfigError(
            f"cluster.nodes is {cluster.nodes}, but {', '.join(missing)} is not set.",
            "Start this command on every machine with NODE_RANK=0, 1, ..., the first machine's name in MASTER_ADDR "
            "and one free port in MASTER_PORT; or set cluster.nodes=1.",
        )
    node_rank = environ["NODE_RANK"]
    if not node_rank.isdigit() or int(node_rank) >= cluster.nodes:
        raise ConfigError(
            f"NODE_RANK is {node_rank!r}, but cluster.nodes is {cluster.nodes}.",
            f"Give each machine a number of its own from 0 to {cluster.nodes - 1}.",
        )
    return Rendezvous(cluster.nodes, int(node_rank), environ["MASTER_ADDR"], cluster.master_port)


def rank_settings(cluster: ClusterConfig, environ: Mapping[str, str], *, cores: int) -> dict[str, str]:
    """Environment that all ranks share: threads, unbuffered output, and hidden GPUs where the CPU is asked for."""
    settings = {"PYTHONUNBUFFERED": "1", **KEPT_MEMORY}
    if cluster.threads_per_process:
        settings["OMP_NUM_THREADS"] = str(cluster.threads_per_process)
    elif "OMP_NUM_THREADS" not in environ:
        settings["OMP_NUM_THREADS"] = str(max(1, cores // cluster.processes_per_node))
    if cluster.device == "cpu":
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return settings


def rank_environment(plan: LaunchPlan, local_rank: int, *, port: int) -> dict[str, str]:
    """Torchrun's variables for one rank of this machine."""
    return {
        **plan.environment,
        "RANK": str(plan.rendezvous.node_rank * plan.processes + local_rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(plan.world_size),
        "LOCAL_WORLD_SIZE": str(plan.processes),
        "MASTER_ADDR": plan.rendezvous.address,
        "MASTER_PORT": str(port),
    }
