"""What can go wrong with SLURM, told apart: it is not here, it does not answer, it does not keep accounts, it said no.

`failures.py` decides which of them a command's answer is.
"""

from __future__ import annotations

from qad_core.errors import OutsideError, QadError


class SlurmMissing(QadError):
    """SLURM cannot be used from this machine: no commands, or no configuration. Waiting does not help."""


class SlurmUnavailable(OutsideError):
    """The controller gave no answer that can be read. It says nothing about jobs, and nothing was learned.

    What was asked for may have been done all the same: after a lost answer of sbatch the job can exist.
    """


class AccountingUnavailable(OutsideError):
    """sacct gave no answer. `disabled` is whether the cluster keeps no accounts at all."""

    def __init__(self, message: str, hint: str = "", *, disabled: bool = False) -> None:
        super().__init__(message, hint)
        self.disabled = disabled


class SlurmRefused(QadError):
    """SLURM answered, and said no.

    `said` is its own text; `key` is the config key whose value it took offence at (`cluster.slurm.partition`),
    or empty where that is not known.
    """

    def __init__(self, message: str, hint: str = "", *, said: str = "", key: str = "") -> None:
        super().__init__(message, hint)
        self.said = said
        self.key = key
