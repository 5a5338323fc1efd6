"""What a run comes to in numbers, before it starts: ranks, batches, tokens, GPUs, and hours where they can be known.

Pure but for a look at the run's folder, and at that of a run like it, for how far it is and how fast it went.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qad_core.config.load import config_values, read_resolved
from qad_core.config.schema import RunConfig
from qad_core.errors import QadError
from qad_core.launch.chain import ChainEstimate, estimate_chain
from qad_core.run.checkpoints import newest_checkpoint_step
from qad_core.run.folder import RunFolder
from qad_core.run.pace import Pace, measure_pace
from qad_core.seen import is_there

PACE_SECTIONS = ("loss", "model", "parallelism", "cluster", "quantization", "distillation")
PACE_KEYS = (
    "train.micro_batch_size", "train.global_batch_size", "train.sequence_length", "train.precision", "train.recompute",
)  # fmt: skip
"""Sections and fields that a step's time depends on; names and what SLURM is asked for beside them do not count."""
_NO_PACE = ("name", "random_seed", "master_port")


@dataclass(frozen=True)
class DraftNumbers:
    """In the words of the config; times in seconds."""

    run_name: str
    run_folder: Path
    folder_is_there: bool
    checkpoint_step: int | None
    """Step that the run would go on from; None for a new run."""
    ranks: int
    gpus: int | None
    """GPUs that are needed; None where the ranks take what there is (`device: auto` on this machine)."""
    data_parallel_size: int
    micro_batches: int
    iterations: int
    tokens_per_iteration: int
    time_limit_seconds: int | None
    """Of one link; None where there is no queue."""
    seconds_per_iteration: float | None
    pace_of: str
    """Name of the run that the pace was measured on; empty where there is none."""
    estimate: ChainEstimate | None
    """Links needed, where the pace is known."""

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.iterations * self.tokens_per_iteration

    def gpu_hours(self, links: int) -> float | None:
        """GPU hours that so many links take at most; None where there are no GPUs or no walltime."""
        if not self.gpus or self.time_limit_seconds is None:
            return None
        return links * self.gpus * self.time_limit_seconds / 3600

    @property
    def gpu_hours_needed(self) -> float | None:
        """GPU hours of the training that is left, by the pace; None where it is not known."""
        return self.estimate.hours * self.gpus if self.estimate and self.gpus else None


def number_draft(config: RunConfig, *, fresh: bool = False, like: Path | None = None) -> DraftNumbers:
    """The numbers of a config; raises what reading the folder's files raises (RunError)."""
    folder = RunFolder(config.paths.checkpoint_root / config.run_name)
    at = None if fresh else newest_checkpoint_step(folder)
    pace, pace_of = _pace(config, folder, like)
    return DraftNumbers(
        run_name=config.run_name,
        run_folder=folder.path,
        folder_is_there=is_there(folder.path),
        checkpoint_step=at,
        ranks=config.cluster.world_size,
        gpus=_gpus(config),
        data_parallel_size=config.data_parallel_size,
        micro_batches=config.num_micro_batches,
        iterations=config.train.train_iterations,
        tokens_per_iteration=config.train.global_batch_size * config.train.sequence_length,
        time_limit_seconds=config.cluster.slurm.time_limit_seconds if config.cluster.kind == "slurm" else None,
        seconds_per_iteration=pace.seconds_per_iteration if pace else None,
        pace_of=pace_of,
        estimate=_estimate(config, at, pace),
    )


def _gpus(config: RunConfig) -> int | None:
    cluster = config.cluster
    if cluster.kind == "slurm":
        return cluster.nodes * cluster.gpus_per_node
    if cluster.device == "cpu":
        return 0
    return cluster.world_size if cluster.device == "cuda" else None


def _pace(config: RunConfig, folder: RunFolder, like: Path | None) -> tuple[Pace | None, str]:
    own = measure_pace(folder)
    if own is not None:
        return own, folder.name
    if like is None:
        return None, ""
    other = RunFolder(like)
    try:
        known = read_resolved(other.config).config
    except QadError:
        return None, ""  # of another version: nothing can be said of its speed
    pace = measure_pace(other) if _pace_values(known) == _pace_values(config) else None
    return pace, other.name if pace else ""


def _pace_values(config: RunConfig) -> dict[str, object]:
    """The values that a step's time depends on."""
    return {key: value for key, value in config_values(config) if _sets_pace(key)}


def _sets_pace(key: str) -> bool:
    if key in PACE_KEYS:
        return True
    section, _, last = key.partition(".")
    return section in PACE_SECTIONS and last not in _NO_PACE and not last.startswith(("slurm.", "container."))


def _estimate(config: RunConfig, at: int | None, pace: Pace | None) -> ChainEstimate | None:
    if pace is None or config.cluster.kind != "slurm":
        return None
    slurm = config.cluster.slurm
    return estimate_chain(
        max(config.train.train_iterations - (at or 0), 0),
        pace.seconds_per_iteration,
        time_limit_seconds=slurm.time_limit_seconds,
        stop_seconds_before_limit=slurm.stop_seconds_before_limit,
        start_seconds=pace.start_seconds,
    )
