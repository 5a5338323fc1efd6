"""Which one change of a config that is too large for its GPUs would make it fit.

Owns the changes that are tried and their order: first those that cost least time. Each is evaluated with the
prediction that found the config too large, and only where `checks_layout` finds nothing wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qad_core.config.checks_layout import check_layout
from qad_core.config.devices import Device
from qad_core.config.memory import MemoryPrediction, predict_memory
from qad_core.config.schema import ArchitectureConfig, RunConfig

_FACTORS = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Change:
    """A config that is another in one matter."""

    override: str
    """`key=value`."""
    memory: MemoryPrediction
    """Of the changed config."""


@dataclass(frozen=True)
class Fitting:
    """What would fit; or, where no single change does, how far the best one gets."""

    fits: Change | None
    best: Change | None
    """The change after which least is held; None where nothing can be changed."""


def find_fitting(
    config: RunConfig, architecture: ArchitectureConfig, teacher: ArchitectureConfig, device: Device
) -> Fitting:
    """The first change that fits the device's memory, in the order of the module; that memory must be known."""
    assert device.memory is not None
    present = predict_memory(config, architecture, teacher, device).total
    tried: list[Change] = []
    for override, changed in _changes(config, architecture):
        if any(check_layout(changed, architecture, teacher)):
            continue
        change = Change(override, predict_memory(changed, architecture, teacher, device))
        if change.memory.total <= device.memory:
            return Fitting(change, change)
        if change.memory.total < present:
            tried.append(change)
    return Fitting(None, min(tried, key=lambda one: one.memory.total, default=None))


def _changes(config: RunConfig, architecture: ArchitectureConfig) -> Iterator[tuple[str, RunConfig]]:
    layout, train, cluster = config.parallelism, config.train, config.cluster
    if layout.tensor_model_parallel_size > 1 and not layout.sequence_parallel:
        yield _with(config, "parallelism", "sequence_parallel", True)
    for size in (train.micro_batch_size // factor for factor in _FACTORS):
        if size >= 1:
            yield _with(config, "train", "micro_batch_size", size)
    if train.recompute == "none":
        yield _with(config, "train", "recompute", "full")
    if architecture.num_moe_experts is not None:
        for factor in _FACTORS:
            size = layout.expert_model_parallel_size * factor
            yield _with(config, "parallelism", "expert_model_parallel_size", size)
    for factor in _FACTORS:
        tensor = layout.tensor_model_parallel_size * factor
        if tensor <= cluster.processes_per_node:  # a TP group speaks too often to reach over nodes
            yield _with(config, "parallelism", "tensor_model_parallel_size", tensor)
    for factor in _FACTORS:
        stages = layout.pipeline_model_parallel_size * factor
        yield _with(config, "parallelism", "pipeline_model_parallel_size", stages)
    for factor in _FACTORS if cluster.kind == "slurm" else ():
        yield _with(config, "cluster", "nodes", cluster.nodes * factor)


def _with(config: RunConfig, section: str, field: str, value: object) -> tuple[str, RunConfig]:
    part = getattr(config, section).model_copy(update={field: value})
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{section}.{field}={text}", config.model_copy(update={section: part})
