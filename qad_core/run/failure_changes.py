"""Changes of the config that carry out the advice about a failure: overrides, ready to paste.

Pure functions of the run as it was. One is proposed only where it differs from the config and fits it; advice
without one is left to the reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qad_core.config.schema import RunConfig
from qad_core.run.memory_steps import next_memory_step
from qad_core.run.status import Status

DEFAULT_STOP_SECONDS = 600
MOST_STOP_SECONDS = 65535


@dataclass(frozen=True)
class Situation:
    """A failed run, as far as advice depends on it."""

    config: RunConfig | None
    status: Status | None
    said: str
    """What was found: the lines of the log, or our own error with its hint."""
    node: str = ""
    """Name of the node it happened on, where it is known."""
    waited_for: str = ""
    """A sentence on the rank that the others waited for, where it is known."""


def propose_changes(kind: str, situation: Situation) -> tuple[str, ...]:
    """Overrides `key=value`, one a field, as they stand on a command line before the shell's quotes; may be none."""
    propose = _CHANGES.get(kind)
    return () if propose is None or situation.config is None else tuple(propose(situation.config, situation))


def may_ask_for_more_memory(config: RunConfig) -> bool:
    """Whether SLURM has not been asked for all of a node's memory yet."""
    return config.cluster.kind == "slurm" and config.cluster.slurm.memory != "0"


def _less_memory(config: RunConfig, situation: Situation) -> list[str]:
    step = next_memory_step(config)
    return list(step.changes) if step else []


def _more_host_memory(config: RunConfig, situation: Situation) -> list[str]:
    return ["cluster.slurm.memory=0"] if may_ask_for_more_memory(config) else _less_memory(config, situation)


def _own_architecture(config: RunConfig, situation: Situation) -> list[str]:
    """Read the shape anew, where the weights are a folder that can have a config.json."""
    weights, known = config.model.weights, config.model.architecture is not None
    is_folder = weights != "random" and not weights.endswith(".gguf") and "://" not in weights
    return ["model.architecture=null"] if known and is_folder else []


def _room_for_saves(config: RunConfig, situation: Situation) -> list[str]:
    """Nothing where the last save was in time; else more time for it, and saves that lose less."""
    status = situation.status
    if config.cluster.kind != "slurm" or (status is not None and status.phase == "stopped"):
        return []
    changes: list[str] = []
    now = config.cluster.slurm.stop_seconds_before_limit
    most = min(MOST_STOP_SECONDS, config.cluster.slurm.time_limit_seconds // 2)
    longer = min(2 * now or DEFAULT_STOP_SECONDS, most)
    if longer > now:
        changes.append(f"cluster.slurm.stop_seconds_before_limit={longer}")
    lost = status.step - (status.checkpoint_step or 0) if status else 0
    if lost > 1 and not 0 < config.checkpoint.interval <= lost:
        changes.append(f"checkpoint.interval={lost // 2}")
    return changes


def _requeue(config: RunConfig, situation: Situation) -> list[str]:
    off = config.cluster.kind == "slurm" and not config.cluster.slurm.requeue
    return ["cluster.slurm.requeue=true"] if off else []


def _without_node(config: RunConfig, situation: Situation) -> list[str]:
    given = config.cluster.slurm.extra_options
    if config.cluster.kind != "slurm" or not situation.node or any(word.startswith("--exclude") for word in given):
        return []
    return [f"cluster.slurm.extra_options={json.dumps([*given, f'--exclude={situation.node}'])}"]


def _fewer_checkpoints(config: RunConfig, situation: Situation) -> list[str]:
    return ["checkpoint.keep_last=1"] if config.checkpoint.keep_last > 1 else []


def _free_port(config: RunConfig, situation: Situation) -> list[str]:
    return ["cluster.master_port=0"] if config.cluster.master_port else []


def _past_divergence(config: RunConfig, situation: Situation) -> list[str]:
    """Skip the steps that our own error names; without them, half the learning rate."""
    named = re.search(r"in steps (\d+) to (\d+)", situation.said)
    if named is None:
        return [f"train.learning_rate={config.train.learning_rate / 2:g}"]
    steps = {*config.train.iterations_to_skip, *range(int(named[1]), int(named[2]) + 1)}
    return [f"train.iterations_to_skip={json.dumps(sorted(steps))}"]


def _more_patience(config: RunConfig, situation: Situation) -> list[str]:
    return [f"train.distributed_timeout_minutes={2 * config.train.distributed_timeout_minutes:g}"]


_CHANGES: Mapping[str, Callable[[RunConfig, Situation], list[str]]] = {
    "cuda_out_of_memory": _less_memory,
    "host_out_of_memory": _more_host_memory,
    "killed": _more_host_memory,
    "shape_mismatch": _own_architecture,
    "walltime": _room_for_saves,
    "node_failure": _requeue,
    "preemption": _requeue,
    "gpu_fault": _without_node,
    "disk_full": _fewer_checkpoints,
    "port_taken": _free_port,
    "rendezvous": _free_port,
    "diverged": _past_divergence,
    "collective_timeout": _more_patience,
}
