"""Every file name of a run folder, and nothing else: no reading, no writing of their contents.

The layout is that of the scripts that this product replaces, so that people's habits and
TensorBoard commands go on working.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TRACKER_NAME = "latest_checkpointed_iteration.txt"


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder; `model_name` names the folders below checkpoints/ and tensorboard/."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name, which is the run's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved config with where each value came from."""
        return self.path / "config.yaml"

    @property
    def identity(self) -> Path:
        """Fingerprint of what makes two runs different, and the code's version."""
        return self.path / "run.json"

    @property
    def jobs(self) -> Path:
        """One JSON line a link of the chain."""
        return self.path / "jobs.jsonl"

    @property
    def lock(self) -> Path:
        """Locked while a launcher or one of its ranks lives; holds that launcher's host and pid."""
        return self.path / "launch.lock"

    @property
    def submit_lock(self) -> Path:
        """Locked while a submission to SLURM is under way."""
        return self.path / "submit.lock"

    @property
    def metrics(self) -> Path:
        """One flushed JSON line a step or an evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def status(self) -> Path:
        """Phase, step and last error, replaced atomically."""
        return self.path / "status.json"

    @property
    def calibration(self) -> Path:
        """What calibration could not see; of a mixture of experts alone."""
        return self.path / "calibration.json"

    @property
    def logs(self) -> Path:
        """Logs that a person reads, one file a start and rank."""
        return self.path / "logs"

    @property
    def slurm(self) -> Path:
        """Scripts of the run's SLURM chains, and what the nodes of a job tell each other."""
        return self.path / "slurm"

    def chain_stop(self, chain: str) -> Path:
        """Text file whose being there stops a chain; it says why."""
        return self.slurm / f"{chain}.stop"

    def checkpoints(self, model_name: str) -> Path:
        """Folder of `iter_0000200/` and the tracker file."""
        return self.path / "checkpoints" / model_name

    def tracker(self, model_name: str) -> Path:
        """Text file with the newest whole checkpoint's iteration; written last."""
        return self.checkpoints(model_name) / TRACKER_NAME

    @property
    def event_files(self) -> Path:
        """Folder that TensorBoard's event files are below."""
        return self.path / "tensorboard"

    def tensorboard(self, model_name: str) -> Path:
        """Folder of our own TensorBoard event files."""
        return self.event_files / model_name


def iteration_folder(checkpoints: Path, iteration: int) -> Path:
    """Folder of one checkpoint: `iter_` and seven digits."""
    return checkpoints / f"iter_{iteration:07d}"
