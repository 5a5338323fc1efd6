"""How advice names a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from qad_core.run.address import address
from qad_core.run.folder import RunFolder


def test_a_run_is_named_by_its_name_only_where_commands_find_it_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert address(RunFolder(Path("runs/a")), {}) == "a"
    assert address(RunFolder(tmp_path / "runs/a"), {}) == "a"
    assert address(RunFolder(tmp_path / "other/a"), {"QAD_CHECKPOINT_ROOT": "other"}) == "a"
    assert address(RunFolder(tmp_path / "other/a"), {}) == str(tmp_path / "other/a")
    assert shlex.split(address(RunFolder(tmp_path / "my runs/a"), {})) == [str(tmp_path / "my runs/a")]


def test_a_run_of_the_same_name_in_the_working_directory_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = RunFolder(tmp_path / "a")
    here.path.mkdir()
    here.status.write_text("{}")
    assert address(here, {}) == "a"
    assert address(RunFolder(tmp_path / "runs/a"), {}) == str(tmp_path / "runs/a")
