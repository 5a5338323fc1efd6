"""What is wrong with a config: one `Problem` each, and the error that carries all of one load.

Owns the two types and their wording on a terminal; it finds no problem itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qad_core.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """One thing that the user has to change."""

    what: str
    """What is wrong, with the value in it."""
    where: str
    """The file and line, the environment variable, the override, or the dotted keys of the config."""
    hint: str
    """What to do about it."""

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        return f"{self.what}{place}" + (f"\n  {self.hint}" if self.hint else "")


class InvalidConfigError(ConfigError):
    """A config that cannot be used; `problems` lists everything that was found wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        if len(self.problems) == 1:
            only = self.problems[0]
            super().__init__(f"{only.what} [{only.where}]" if only.where else only.what, only.hint)
        else:
            listed = "\n".join(f"- {problem}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} problems in the config:\n{listed}")
