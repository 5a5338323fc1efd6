"""Asks SLURM whether it would take a run's job, before anything is written or submitted: partition, account, GPUs."""

from __future__ import annotations

from pathlib import Path

from qad_core.config.problems import Problem
from qad_core.config.schema import RunConfig
from qad_core.launch.sbatch import BatchJob, make_script
from qad_core.run.folder import RunFolder
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmRefused


def find_refusal(client: SlurmClient, config: RunConfig, working_directory: Path) -> Problem | None:
    """What SLURM says against the job, or None; raises SlurmUnavailable or SlurmMissing when it cannot be asked."""
    folder = RunFolder(config.paths.checkpoint_root / config.run_name)
    script = make_script(config, BatchJob(folder, "trial", "trial", working_directory))
    try:
        client.test_only(script, chdir=working_directory)
    except SlurmRefused as refusal:
        return Problem(refusal.message, refusal.key or f"cluster {config.cluster.name}", refusal.hint)
    return None
