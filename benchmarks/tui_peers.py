"""Other programs for the same work, each in an environment of its own that is deleted after it was measured.

Owns the environment and what is said of a program that could not be measured: its name and the reason stand in the
table in place of numbers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Measured = TypeVar("Measured")


class PeerError(Exception):
    """Why a program could not be measured."""


@dataclass(frozen=True)
class Peer:
    """A program that is installed, and a home that nobody else uses."""

    version: str
    """Name and version of its package."""
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables to start it with."""
        return {**os.environ, "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config")}

    def program(self, name: str) -> str:
        """One of its programs."""
        return str(self.folder / "bin" / name)

    def run_script(self, script: str, *arguments: object) -> dict[str, float]:
        """The JSON that a Python script prints in its environment."""
        return read_json([self.program("python"), "-c", script, *map(str, arguments)], self.environ)


@dataclass(frozen=True)
class LeftOut:
    """A program that was not measured."""

    name: str
    reason: str

    def row(self, columns: int) -> tuple[str, ...]:
        """Its row of a table with so many columns."""
        return (f"{self.name}: left out, {self.reason}", *[""] * (columns - 1))


def with_peer(
    package: str, measure: Callable[[Peer], Measured], *more: str, install: bool = True
) -> Measured | LeftOut:
    """What `measure` says of a package, installed with `more` for this; why not, where that fails or is not wanted."""
    if not install:
        return LeftOut(package, "it was not to be installed")
    with tempfile.TemporaryDirectory(prefix="qad-peer-", ignore_cleanup_errors=True) as folder:
        try:
            return measure(_install(package, more, Path(folder)))
        except (PeerError, TimeoutError) as error:
            return LeftOut(package, str(error))


def read_json(argv: Sequence[str], environ: Mapping[str, str]) -> dict[str, float]:
    """What a command prints last, as JSON. Raises PeerError."""
    done = subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise PeerError(_last_line(done.stderr) or f"it ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _install(package: str, more: Sequence[str], folder: Path) -> Peer:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--retries", "1", "--timeout", "20", package, *more]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode != 0:
        raise PeerError(f"pip cannot install it here ({_last_line(done.stderr)})")
    script = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
    version = subprocess.run([pip[0], "-c", script, package], capture_output=True, text=True, check=True)
    return Peer(f"{package} {version.stdout.strip()}", folder)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
