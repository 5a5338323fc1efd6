"""Waits for a SLURM controller that is silent, and says so without saying it over and over.

Owns the waiting alone: what is asked is the caller's, and what counts as silence is `slurm/failures.py`'s.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from qad_core.errors import ConfigError
from qad_core.run.show import show_duration
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmRefused, SlurmUnavailable

PATIENCE_SECONDS = 300.0
"""How long a command waits for a controller that does not answer."""
RETRY_SECONDS = 5.0
RETURN_SECONDS = 60.0
"""So long after a controller has come back its nodes may be missing, and what it refuses then it may take later."""
REMINDER_SECONDS = 60.0
"""So often a silence that lasts is said again."""
Answer = TypeVar("Answer")


@dataclass
class PatientSlurm:
    """SLURM, somebody to tell, and how long to wait for it."""

    client: SlurmClient
    say: Callable[[str], None]
    patience_seconds: float = PATIENCE_SECONDS
    _silent_since: float | None = field(default=None, repr=False)
    """When the silence that lasts began, on the monotonic clock; None while SLURM answers."""
    _silent_at: float | None = field(default=None, repr=False)
    """When SLURM last gave no answer."""
    _said_at: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigError for a patience that no clock reaches."""
        if not math.isfinite(self.patience_seconds):
            raise ConfigError(f"--patience is {self.patience_seconds}", "Give it a number of seconds.")

    def ask(self, question: Callable[[SlurmClient], Answer], deadline: float | None = None) -> Answer:
        """Ask until SLURM answers; raises its SlurmUnavailable when it has not by the deadline (monotonic clock)."""
        deadline = self.new_deadline() if deadline is None else deadline
        while True:
            try:
                answer = question(self.client)
            except SlurmUnavailable as error:
                if time.monotonic() + RETRY_SECONDS > deadline:
                    self._silent_at = time.monotonic()
                    raise
                self.note_silence(f"{error.message} Asking again.")
                time.sleep(RETRY_SECONDS)
            except SlurmRefused:
                self.note_answer()
                raise
            else:
                self.note_answer()
                return answer

    def new_deadline(self) -> float:
        """Until when a question that is asked from now on is waited for, on the monotonic clock."""
        return time.monotonic() + self.patience_seconds

    def note_silence(self, words: str) -> None:
        """SLURM gave no answer: say so in these words when it is news, and else once a minute that it lasts."""
        now = time.monotonic()
        self._silent_at = now
        if self._silent_since is None:
            self._silent_since, self._said_at = now, now
            self.say(words)
        elif now - self._said_at >= REMINDER_SECONDS:
            self._said_at = now
            self.say(f"Still no answer from SLURM after {show_duration(now - self._silent_since)}.")

    def note_answer(self) -> None:
        """SLURM gave an answer: say so after a silence."""
        if self._silent_since is not None:
            self.say(f"SLURM answers again, after {show_duration(time.monotonic() - self._silent_since)}.")
            self._silent_since = None

    def was_silent_since(self, moment: float) -> bool:
        """Whether an answer failed to come at or after a moment of the monotonic clock."""
        return self._silent_at is not None and self._silent_at >= moment

    def has_just_come_back(self) -> bool:
        """Whether SLURM was silent so lately that a refusal may be no last word."""
        return self.was_silent_since(time.monotonic() - RETURN_SECONDS)
