"""Experts that calibration has not seen are kept with the run, and told by `qad_core status` in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.cli import main
from qad_core.run.calibration import MOST_LAYERS, UnseenLayer, read_unseen, unseen_words, write_unseen
from qad_core.run.folder import RunFolder
from qad_core.run.status import Status, write_status

LAYERS = [
    UnseenLayer(layer=1, experts=(3, 9, 11), num_experts=16, input_amax=(1.5, 0.25)),
    UnseenLayer(layer=4, experts=(0,), num_experts=16, input_amax=(2.0, 0.5)),
]


def test_layers_read_back(tmp_path: Path) -> None:
    write_unseen(tmp_path / "calibration.json", LAYERS)
    assert read_unseen(tmp_path / "calibration.json") == LAYERS
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"unseen_experts": [{"layer": -1}]}', '{"unseen_experts": 3}'])
def test_what_is_no_such_file_has_no_layers(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "calibration.json"
    if text is not None:
        path.write_text(text)
    assert read_unseen(path) == []


def test_one_line_says_which_layers_how_many_experts_and_their_amax() -> None:
    assert unseen_words(LAYERS) == (
        "4 experts saw no token in calibration and took their layer's largest amax: "
        "layer 1: 3 of 16 (amax 1.5, 0.25); layer 4: 1 of 16 (amax 2, 0.5)"
    )
    assert unseen_words([]) == ""
    assert unseen_words(LAYERS * MOST_LAYERS).endswith(f"; {MOST_LAYERS} more layers")


def test_status_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path / "mine")
    run.path.mkdir()
    write_status(run.status, Status(phase="done", step=4, train_iterations=4))
    write_unseen(run.calibration, LAYERS)
    assert main(["status", "mine", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "4 experts saw no token in calibration" in shown
    assert main(["status", "mine", "--root", str(tmp_path), "--json"]) == 0
    assert '"num_experts": 16' in capsys.readouterr().out
