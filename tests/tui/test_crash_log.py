"""A bug that ends the screen is kept in a file, and one line says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.worker import WorkerFailed

from qad_tui.app import QadApp
from qad_tui.command import run_app
from qad_tui.crash_log import CRASH_NAME, keep_crash


def test_a_bug_on_the_screen_leaves_its_traceback_in_the_folder_of_the_settings(
    app: QadApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug made for a test")

    monkeypatch.setattr(app, "_tick", fail)
    run = app.run
    monkeypatch.setattr(app, "run", lambda *, mouse: run(mouse=mouse, headless=True))
    assert run_app(app, mouse=False) == 1
    path = tmp_path / "qad-tui-home" / CRASH_NAME
    assert capsys.readouterr().err.splitlines()[-1] == f"This is a bug of qad-tui; its traceback is in {path}"
    text = path.read_text(encoding="utf-8")
    assert "ZeroDivisionError: a bug made for a test" in text and "in fail" in text


def test_a_bug_in_a_thread_is_told_by_its_own_traceback_behind_the_one_before(tmp_path: Path) -> None:
    keep_crash(KeyError("first"), tmp_path)
    try:
        raise ValueError("in a thread")
    except ValueError as error:
        keep_crash(WorkerFailed(error), tmp_path)
    text = (tmp_path / CRASH_NAME).read_text(encoding="utf-8")
    assert text.index("KeyError: 'first'") < text.index("ValueError: in a thread") and "WorkerFailed" not in text


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    home = tmp_path / "a-file"
    home.write_text("")
    assert "cannot be written" in keep_crash(KeyError("x"), home)
