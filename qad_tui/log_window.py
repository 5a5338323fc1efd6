"""The part of a log that is in memory, as the screen is given it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from qad_core.run.log_signs import Sign


class WindowLine(NamedTuple):
    """One line as it is shown."""

    offset: int
    """Of its first byte in the file, which tells lines apart."""
    text: str
    sign: Sign


@dataclass(frozen=True)
class LogWindow:
    """The lines of a log that are in memory."""

    path: Path
    lines: tuple[WindowLine, ...] = ()
    first_number: int | None = None
    """1-based number of the first line in the file, where it is known: after a look from the beginning."""
    generation: int = 0
    """Another one means that the file was truncated or replaced, and offsets of before mean nothing."""
    at_start: bool = True
    """Whether the first line is the file's first."""
    at_end: bool = True
    """Whether the last line is the file's last."""
    size: int = 0
    """Bytes of the file."""
    exists: bool = True
    problem: str = ""
    """Why it cannot be read."""

    def is_of_file_of(self, other: LogWindow) -> bool:
        """Whether both are windows on the same file, so that offsets mean the same lines."""
        return (self.path, self.generation) == (other.path, other.generation)
