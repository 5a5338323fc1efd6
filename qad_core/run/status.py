"""status.json: what a run is doing now, replaced atomically by its first rank.

The trainer writes it at every change of phase and every step; everyone else only reads. What an error says may
hold a secret, so that texts are redacted on their way in and out. A reader decides from `updated` and `pid`
whether the writer still lives (`store.py`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from qad_core.run.redact import fit_to_show

Phase = Literal[
    "starting", "teacher", "student", "calibrating", "data", "loading", "evaluating", "training", "saving",
    "done", "stopped", "failed",
]  # fmt: skip
Count = Annotated[int, Field(ge=0, lt=2**63)]
UnixTime = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
LONGEST_TEXT = 4000
"""Characters of an error or a hint that are kept."""
_SHOWN = ("reason", "error", "hint", "host")
ENDED: frozenset[str] = frozenset({"done", "stopped", "failed"})


class Status(BaseModel):
    """One state of a run."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True, allow_inf_nan=False)

    phase: Phase
    """What the trainer is at."""
    step: Count = 0
    """Optimizer steps done."""
    train_iterations: Count = 0
    """Optimizer steps in all."""
    checkpoint_step: Count | None = None
    """Newest whole checkpoint."""
    updated: UnixTime = 0.0
    """Unix time of this state."""
    started: UnixTime = 0.0
    """Unix time at which this process started."""
    pid: Count = 0
    """Process of the first rank."""
    host: str = ""
    """Machine of the first rank."""
    reason: str = ""
    """Why it stopped, in words: `SIGTERM`, `exit_iteration`, `time limit`."""
    error: str = ""
    """The error's message when it failed."""
    hint: str = ""
    """What to do about the error."""
    exit_code: int | None = None
    """Exit code when it ended."""


def write_status(path: Path, status: Status) -> None:
    """Replace the file in one step: a reader sees the old state or the new one, never a half, and no secret."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(_made_fit(status).model_dump_json(indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_status(path: Path) -> Status | None:
    """The state, or None when there is none, or what is there is not one or cannot be read.

    Its texts are fit to show: without secrets, however it was written.
    """
    try:
        return _made_fit(Status.model_validate(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, RecursionError):
        return None


def _made_fit(status: Status) -> Status:
    return status.model_copy(update={name: fit_to_show(getattr(status, name), LONGEST_TEXT) for name in _SHOWN})
