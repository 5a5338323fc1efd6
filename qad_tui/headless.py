"""The command line, run beside the screen: what the screen does to runs is done by the command that says it.

Owns how a command is called and how its JSON is read. It is called in a thread; the command lives on when the
screen is closed meanwhile.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from qad_core.errors import ExitCode


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    arguments: tuple[str, ...]
    exit_code: int
    data: Any = None
    """As the command's --json has it."""
    problems: tuple[str, ...] = ()
    """What was wrong, each with what to do."""

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked to."""
        return self.exit_code == ExitCode.DONE and not self.problems


def command_line(arguments: Sequence[str]) -> str:
    """The command as a person would type it."""
    return shlex.join(["qad_core", *arguments])


def run_command(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Answer:
    """Run `qad_core ARGUMENTS --json` to its end; `environ` None is that of this process."""
    done = subprocess.run(
        [sys.executable, "-m", "qad_core.cli", *arguments, "--json"],
        env=None if environ is None else dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        check=False,
    )
    return read_answer(arguments, done.returncode, done.stdout, done.stderr)


def read_answer(arguments: Sequence[str], exit_code: int, stdout: str, stderr: str) -> Answer:
    """The answer in what a command printed."""
    try:
        envelope = cast("dict[str, Any]", json.loads(stdout))
        problems = tuple(_words(problem) for problem in envelope["problems"])
        return Answer(tuple(arguments), exit_code, envelope["data"], problems)
    except (ValueError, KeyError, TypeError):
        last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
        problem = f"{command_line(arguments)} ended with exit code {exit_code}: {last}"
        return Answer(tuple(arguments), exit_code, None, (problem,))


def _words(problem: Mapping[str, str]) -> str:
    where = f"{problem['where']}: " if problem.get("where") else ""
    hint = f" {problem['hint']}" if problem.get("hint") else ""
    return f"{where}{problem['what']}{hint}"
