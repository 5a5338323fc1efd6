"""What the foreground shows of a run, with and without a terminal."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from qad_core.launch import watch
from qad_core.launch.watch import Watch
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, encode_line
from qad_core.run.status import Phase, Status, write_status


@pytest.fixture(autouse=True)
def look_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)


def say(folder: RunFolder, phase: Phase, step: int, *lines: MetricsLine, age: float = 0) -> None:
    now = time.time() - age
    with folder.metrics.open("a") as file:
        file.writelines(encode_line({"time": now, **line}) + "\n" for line in lines)
    write_status(folder.status, Status(phase=phase, step=step, train_iterations=40, updated=now))


def show(folder: RunFolder, *, terminal: bool) -> str:
    shown = io.StringIO()
    say(folder, "done", 40, {"step": 40, "eval/kl": 0.7}, age=60)
    with Watch(folder, Console(file=shown, force_terminal=terminal, width=200)) as look:
        look.look()
        say(folder, "teacher", 0)
        look.look()
        say(folder, "training", 0, {"step": 0, "eval/kl": 0.5})
        look.look()
        for step in (1, 2, 3):
            say(folder, "training", step, {"step": step, "loss/kd": step / 10, "step_ms": 1000.0, "tokens_per_s": 9.0})
            look.look()
    return shown.getvalue()


def test_without_a_terminal_not_every_step_is_a_line(tmp_path: Path) -> None:
    lines = show(RunFolder(tmp_path), terminal=False).splitlines()
    assert lines[0] == "building the teacher"
    assert lines[1].startswith("evaluation at step 0: KL 0.5,")
    assert lines[2:] == [
        "step 1 of 40: loss 0.1, 9 tokens/s, 39 s left",
        "step 3 of 40: loss 0.3, 9 tokens/s, 37 s left",
    ]


def test_a_terminal_gets_a_bar_with_the_newest_numbers(tmp_path: Path) -> None:
    shown = show(RunFolder(tmp_path), terminal=True)
    assert "3/40" in shown and "loss 0.3, 9 tokens/s" in shown
    assert "KL 0.7" not in shown, "an evaluation of an earlier start is no news"
