"""The environment that SLURM's commands get: the process's, without what would change what they do or print.

A command takes options from variables: SQUEUE_FORMAT changes columns, SBATCH_PARTITION overrides a script's
own lines, SLURM_CLUSTERS asks another cluster. And a command that runs inside an allocation must not hand the
allocation's variables on to a new job. So all of them go; what says where SLURM is and who asks stays.
"""

from __future__ import annotations

from collections.abc import Mapping

_PREFIXES = ("SBATCH_", "SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SINFO_", "SLURM_", "SLURMD_")
_KEPT = frozenset(
    {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_JWKS", "SLURM_SACK_KEY", "SLURM_SACK_SOCKET"}
)
"""Read by SLURM's library to find the controller and to authenticate (getenv in src/common, src/plugins/auth)."""


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of any of SLURM's commands, from that of this process."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or not name.startswith(_PREFIXES)}
    return {**kept, "LC_ALL": "C"}
