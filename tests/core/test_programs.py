"""Our own programs are named as the reader can call them from where they stand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qad_core.commands.programs import name_program


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with an environment that is not on the PATH, which is where we are."""
    programs = tmp_path / "checkout" / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "qad-tui").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path / "checkout")
    return programs / "qad-tui"


def test_a_program_of_this_environment_is_named_by_its_path_from_here(installed: Path) -> None:
    assert name_program(installed.name) == ".venv/bin/qad-tui"


def test_from_elsewhere_its_path_is_whole(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert name_program(installed.name) == str(installed)


def test_a_program_on_the_path_or_nowhere_is_named_bare(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_program("qad_core") == "qad_core"
    monkeypatch.setenv("PATH", str(installed.parent))
    assert name_program(installed.name) == "qad-tui"
