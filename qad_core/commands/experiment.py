"""What the commands that take an experiment share: the tag, the run folder, and the numbers it comes to."""

from __future__ import annotations

from collections.abc import Sequence

from qad_core.config.schema import RunConfig
from qad_core.run.folder import RunFolder


def with_tag(overrides: Sequence[str], tag: str | None) -> list[str]:
    """`--tag T` as the override that it stands for."""
    return [*overrides, *([f"tag={tag}"] if tag is not None else [])]


def run_folder_of(config: RunConfig) -> RunFolder:
    """Folder of the run that a config describes."""
    return RunFolder(config.paths.checkpoint_root / config.run_name)


def describe_config(config: RunConfig) -> dict[str, object]:
    """What a config comes to, in the numbers that people ask for first."""
    slurm = {"gpus": config.cluster.nodes * config.cluster.gpus_per_node, "time_limit": config.cluster.slurm.time_limit}
    return {
        "run_name": config.run_name,
        "run_folder": run_folder_of(config).path,
        "world_size": config.cluster.world_size,
        "data_parallel_size": config.data_parallel_size,
        "num_micro_batches": config.num_micro_batches,
        "train_iterations": config.train.train_iterations,
        "tokens_per_iteration": config.train.global_batch_size * config.train.sequence_length,
        **(slurm if config.cluster.kind == "slurm" else {}),
    }
