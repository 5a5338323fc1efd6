"""What cannot be done to a run's chain from here: where there is no SLURM, or the run's cluster has no queue.

Owns the look at the machine and at the run's config, and the words for what was seen; it asks SLURM nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qad_core.errors import ConfigError
from qad_core.slurm.command import find_program
from qad_core.slurm.environment import command_environment
from qad_core.slurm.errors import SlurmMissing

if TYPE_CHECKING:
    from qad_core.run.folder import RunFolder


@dataclass(frozen=True)
class ChainLimits:
    """Why keys cannot work; what nothing is known of is taken to work, and the commands say it."""

    missing: str = ""
    """Why there is no SLURM here; empty where there is one."""
    is_local: bool = False
    """Whether the run's cluster is this machine, so that no link of it can be submitted."""

    @property
    def allow_add(self) -> bool:
        """Whether links can be submitted."""
        return not (self.missing or self.is_local)

    def allow_cancel(self, *, has_links: bool) -> bool:
        """Whether links can be cancelled, which a local run may have of an earlier config."""
        return not self.missing and (has_links or not self.is_local)

    @property
    def brief(self) -> str:
        """Behind the words of a chain; empty where all can be done."""
        if self.missing:
            return "no SLURM here: nothing can be changed"
        return "its cluster is local: no link can be added" if self.is_local else ""

    @property
    def sentence(self) -> str:
        """In place of a chain that is not there; empty where all can be done."""
        if self.is_local:
            return "Its cluster is local (cluster.kind): links are for runs on SLURM."
        return f"There is no SLURM here to submit it to: {self.missing}" if self.missing else ""


def read_limits(folder: RunFolder, environ: Mapping[str, str] | None) -> ChainLimits:
    """Look for SLURM's commands in `environ`, this process's where it is None, and at the cluster of the run."""
    missing = ""
    try:
        find_program("sbatch", command_environment(os.environ if environ is None else environ))
    except SlurmMissing as error:
        missing = error.message
    return ChainLimits(missing, _is_local(folder))


def _is_local(folder: RunFolder) -> bool:
    from qad_core.config.load import read_resolved  # it takes a tenth of a second to import

    try:
        return read_resolved(folder.config).config.cluster.kind == "local"
    except (ConfigError, OSError):
        return False
