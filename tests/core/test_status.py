"""status.json is replaced whole, and a file that is none is no state."""

from __future__ import annotations

from pathlib import Path

from qad_core.run.status import Status, read_status, write_status


def test_a_status_reads_back(tmp_path: Path) -> None:
    status = Status(phase="training", step=3, train_iterations=40, pid=7, host="here", updated=1.5)
    write_status(tmp_path / "status.json", status)
    assert read_status(tmp_path / "status.json") == status
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_what_is_no_status_is_none(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert read_status(path) is None
    huge = f'{{"phase": "done", "step": {10**400}}}'
    for text in ("", "{", "[]", '{"phase": "dancing"}', '{"phase": "done", "updated": NaN}', huge):
        path.write_text(text)
        assert read_status(path) is None
    path.unlink()
    path.mkdir()
    assert read_status(path) is None


def test_a_newer_versions_fields_do_not_hide_the_state(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text('{"phase": "done", "step": 4, "mood": "fine"}')
    status = read_status(path)
    assert status is not None and (status.phase, status.step) == ("done", 4)
