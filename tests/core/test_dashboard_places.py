"""What `qad_core dashboard` shows, where, and how to see it from elsewhere; TensorBoard itself is in tests/train."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qad_core.commands import dashboard
from qad_core.commands.dashboard import FIRST_PORT, choose_port, find_places, show_dashboard, tunnel_command
from qad_core.errors import OutsideError, RunError
from qad_core.run.status import Status, write_status


def make_run(path: Path) -> Path:
    path.mkdir(parents=True)
    write_status(path / "status.json", Status(phase="done"))
    return path


def test_runs_are_found_by_name_and_path_and_folders_of_runs_stand_for_all_in_them(tmp_path: Path) -> None:
    root, other = tmp_path / "runs", tmp_path / "others"
    one, two = make_run(root / "one"), make_run(other / "one")
    assert find_places(["one", str(two)], [root]) == {"one": one / "tensorboard", "one-2": two / "tensorboard"}
    assert find_places([str(other)], [root]) == {"others": other}
    assert find_places([], [root, tmp_path / "none"]) == {"runs": root}


def test_a_name_of_no_run_and_roots_that_are_not_there_are_said(tmp_path: Path) -> None:
    make_run(tmp_path / "mine")
    with pytest.raises(RunError, match="no run 'mina'"):
        find_places(["mina"], [tmp_path])
    with pytest.raises(RunError, match="no folder of runs"):
        find_places([], [tmp_path / "none"])


def test_a_taken_port_is_said_and_the_next_free_one_is_taken_where_none_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunError, match="is taken"):
            choose_port(taken.getsockname()[1])
    assert choose_port(None) >= FIRST_PORT


def test_somebody_who_came_by_ssh_is_told_the_way_to_the_port() -> None:
    assert tunnel_command(6006, {}) == ""
    command = tunnel_command(6007, {"SSH_CONNECTION": "10.0.0.1 50000 10.0.0.2 22"})
    assert command.startswith("ssh -N -L 6007:127.0.0.1:6007 ") and command.endswith(f"@{socket.gethostname()}")


def test_a_python_without_tensorboard_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "mine")
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(OutsideError, match="not installed") as raised:
        show_dashboard(["mine"], [tmp_path], port=None)
    assert "pip install" in raised.value.hint
