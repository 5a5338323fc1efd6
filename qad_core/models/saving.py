"""What a disk that does not take a checkpoint is called, whichever library was writing, and what came first."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed
from megatron.core.dist_checkpointing.core import CheckpointingException
from torch.distributed.checkpoint.api import CheckpointException

from qad_core.errors import OutsideError

_ALLOCATOR = "DefaultCPUAllocator"
"""In the RuntimeError that torch raises when a host's memory is used up."""


@contextmanager
def explained_disk(target: Path, hint: str) -> Generator[None]:
    """Raise OutsideError for what writers of a checkpoint raise: torch says RuntimeError of a full disk."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.distributed.DistError):
        raise  # no fault of the disk
    except (OSError, RuntimeError, CheckpointException, CheckpointingException) as error:
        if _ALLOCATOR in str(error):
            raise
        raise OutsideError(f"checkpoint {target} could not be written: {first_line(error)}", hint) from error


def first_line(error: BaseException) -> str:
    """Kind and first line of the error that was the first cause."""
    cause = first_cause(error)
    return f"{type(cause).__name__}: {cause}".splitlines()[0][:300]


def first_cause(error: BaseException) -> BaseException:
    """The error that the others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, CheckpointException):  # its own text names the ranks, and not what befell them
        return next((failure for failure, _ in error.failures.values()), error)
    return error
