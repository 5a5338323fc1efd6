"""Errors that a user can act on, and the exit codes of every command.

Library code raises; the edges (`cli.py`, `train/__main__.py`, the TUI app) catch once and show.
An error says what is wrong, the value, and what to do. Anything that is not a `QadError` is our own bug.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What a process tells its caller; the SLURM chain and scripts lean on these numbers."""

    DONE = 0
    BUG = 1
    """Our own bug, or a run that diverged (three non-finite losses in a row)."""
    USER_ERROR = 2
    STOPPED_EARLY = 3
    """Saved and can be resumed: signal, time limit, or iteration limit."""
    OUTSIDE_FAILED = 4
    """Something outside failed: SLURM, disk, network."""


class QadError(Exception):
    """A problem that the reader can solve.

    `message` says what is wrong with the value in it; `hint` says what to do about it.
    """

    exit_code = ExitCode.USER_ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigError(QadError):
    """A config value, a YAML file, or an override is wrong."""


class ModelError(QadError):
    """Weights, a tokenizer, or a checkpoint cannot be used."""


class DataError(QadError):
    """A corpus, a datablend, or a token file cannot be used."""


class RunError(QadError):
    """A run folder cannot be used: another run's, not writable, not there."""


class BusyError(RunError):
    """A run folder that another start or submission holds: nothing in it may be touched."""


class DivergedError(QadError):
    """The loss was not finite three times in a row; the state from before is saved."""

    exit_code = ExitCode.BUG


class BugError(QadError):
    """Our own bug, caught at an edge that has to say so in a file."""

    exit_code = ExitCode.BUG


class OutsideError(QadError):
    """Disk, network, or another program failed."""

    exit_code = ExitCode.OUTSIDE_FAILED


_PATH_ERRORS = frozenset(
    {
        errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR,
        errno.ENOTEMPTY, errno.EPERM,
    }
)  # fmt: skip
"""What the system answers where a path is wrong, rather than the disk."""


def explain_os_error(error: OSError) -> QadError:
    """What the system refused, by the file's name: a path that cannot be used is the user's, all else the outside's."""
    reason = error.strerror or str(error)
    name: object = error.filename2 or error.filename  # of a renaming, the place that it goes to
    if error.errno in _PATH_ERRORS and name is not None:
        return RunError(f"{name} cannot be used: {reason}", "Mend or move what is there, or name another.")
    what = reason if name is None else f"{name}: {reason}"
    return OutsideError(f"the system failed: {what}", "See that the disk has space and can be written, then try again.")


def name_some(problems: Sequence[str], most: int = 8) -> str:
    """The first problems in one line, and how many more there are."""
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "; ".join([*problems[:most], *more])
