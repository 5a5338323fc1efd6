"""What a start on this machine will do, decided before anything is done.

`make_plan` is pure but for a look at whether the tokens are there and, with several machines, at the routes between
them; `run_local.py` acts on the plan. In a SLURM job each node makes its own plan (`node.py`).
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
from qad_core.launch.network import INTERFACE_VARIABLES, interface_towards
from qad_core.run.folder import RunFolder
from qad_core.run.show import count_of
from qad_core.seen import is_file

KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(256 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""glibc keeps freed blocks of up to 256 MiB: handed back, each activation and the loss's logits cost their page faults
anew. With none kept, the demo's step on a CPU took 1.4 times as long."""
SPARE_PORTS = 9
"""Ports tried after one that was derived from a job's id and is taken; a port that the user named has no other."""


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
    spare_ports: int = 0
    """How many ports after it may be taken in its place, where machine 0 has a way to tell the others which."""


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

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.processes * self.rendezvous.nodes


def make_plan(
    config: RunConfig, run_folder: Path, environ: Mapping[str, str], *, evaluate_only: bool = False
) -> LaunchPlan:
    """Decide how a run starts on this machine.

    `environ` says which of several machines it is: NODE_RANK (or SLURM_NODEID), MASTER_ADDR and MASTER_PORT.
    Raises ConfigError when one of those is missing, and for a SLURM cluster outside of any job.
    """
    if config.cluster.kind == "slurm" and not ({"SLURM_JOB_ID", "NODE_RANK"} & environ.keys()):
        raise ConfigError(
            f"The cluster {config.cluster.name} is a SLURM cluster, and this is no job of it.",
            "Put the run into its queue with `qad_core submit`, or train here with cluster=local.",
        )
    folder = RunFolder(run_folder)
    rendezvous = choose_rendezvous(config.cluster, environ)
    return LaunchPlan(
        run_folder=folder,
        argv=(
            sys.executable, "-m", "qad_core.train", str(run_folder), *(("--evaluate-only",) if evaluate_only else ()),
        ),
        prepare=prepare_argv(folder.config) if _needs_prepare(config, folder) else None,
        processes=config.cluster.processes_per_node,
        rendezvous=rendezvous,
        environment={
            **rank_settings(config.cluster, environ, cores=len(os.sched_getaffinity(0))),
            **network_settings(rendezvous, environ),
        },
    )  # fmt: skip


def _needs_prepare(config: RunConfig, folder: RunFolder) -> bool:
    """Whether tokens are to be made or held against their text, which may have changed; not in a run's middle."""
    if config.dataset.blend is not None:
        return False
    blend_is_there = is_file(dataset_blend_path(config.dataset, config.model, config.paths))
    return not (blend_is_there and is_file(folder.tracker(config.model.name)))


def prepare_argv(config_file: Path) -> tuple[str, ...]:
    """Command that turns the text of a resolved config's dataset into tokens."""
    return (sys.executable, "-m", "qad_core.data", "prepare", str(config_file))


def choose_rendezvous(cluster: ClusterConfig, environ: Mapping[str, str]) -> Rendezvous:
    """The meeting point: on this machine for one machine, else as the environment names it."""
    _check_allocation(cluster, environ)
    if cluster.nodes == 1:
        return Rendezvous(port=cluster.master_port)
    said = environ.get("MASTER_PORT", "")
    port = cluster.master_port or (int(said) if said.isdigit() else 0)
    node_rank = environ.get("NODE_RANK") or environ.get("SLURM_NODEID")
    found = {"NODE_RANK": node_rank, "MASTER_ADDR": environ.get("MASTER_ADDR"), "MASTER_PORT": port}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise ConfigError(
            f"cluster.nodes is {cluster.nodes}, but {', '.join(missing)} is not set.",
            "Start this command on every machine with NODE_RANK=0, 1, ..., the first machine's name in MASTER_ADDR "
            "and one free port in MASTER_PORT; or set cluster.nodes=1.",
        )
    assert node_rank is not None
    if not node_rank.isdigit() or int(node_rank) >= cluster.nodes:
        raise ConfigError(
            f"NODE_RANK is {node_rank!r}, but cluster.nodes is {cluster.nodes}.",
            f"Give each machine a number of its own from 0 to {cluster.nodes - 1}.",
        )
    spare = SPARE_PORTS if cluster.kind == "slurm" and not cluster.master_port else 0
    return Rendezvous(cluster.nodes, int(node_rank), environ["MASTER_ADDR"], port, spare)


def _check_allocation(cluster: ClusterConfig, environ: Mapping[str, str]) -> None:
    """In a job of a SLURM cluster, the nodes that SLURM gave are the nodes of the config."""
    given = environ.get("SLURM_JOB_NUM_NODES", "")
    if cluster.kind == "slurm" and given.isdigit() and int(given) != cluster.nodes:
        raise ConfigError(
            f"SLURM gave this job {count_of(int(given), 'node')}, but cluster.nodes is {cluster.nodes}.",
            "Set cluster.nodes and submit again, rather than --nodes on sbatch's command line.",
        )


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


def network_settings(rendezvous: Rendezvous, environ: Mapping[str, str]) -> dict[str, str]:
    """The interface towards the meeting point for gloo and NCCL, for several machines and unless somebody chose one."""
    if rendezvous.nodes == 1:
        return {}
    interface = interface_towards(rendezvous.address)
    return {} if interface is None else {name: interface for name in INTERFACE_VARIABLES if name not in environ}


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
