"""A folder appears whole or not at all, and what keeps it from appearing is told by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.errors import OutsideError, explain_os_error
from qad_core.run.new_folder import new_folder, set_aside
from tests.rights import locked, reachable_folder


def test_a_full_disk_is_told_with_the_folders_name_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match=r"out\.partial could not be written: No space left") as raised:
        with new_folder(tmp_path / "out") as folder:
            (folder / "file").symlink_to("/dev/full")
            (folder / "file").write_text("a")
    assert str(tmp_path / "out") in raised.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_may_not_be_written_is_told_as_such() -> None:
    with reachable_folder() as place, locked(place):
        with pytest.raises(PermissionError) as raised, new_folder(place / "out"):
            pass
        said = explain_os_error(raised.value).message
    assert said.startswith(str(place)) and said.endswith("Permission denied")


def test_what_is_set_aside_lies_under_its_new_name_alone(tmp_path: Path) -> None:
    (tmp_path / "failed").mkdir()
    with pytest.raises(ValueError, match="failed"), new_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
        set_aside(folder, tmp_path / "failed")
        raise ValueError("the check failed")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["failed", "failed/file"]
