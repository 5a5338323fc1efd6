"""A person at a terminal, on a real SLURM: pick, check, submit a chain of two, watch curve and log, cancel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qad_core.run.store import find_runs
from tests.slurm.cluster import SlurmCluster
from tests.slurm.tiny_chain import REPOSITORY, SLOW_START_SECONDS

LOOK_SECONDS = 0.5
EXPERIMENT = """\
# The rehearsal on two nodes, long enough to be watched.
model: tiny
dataset: made-text
parallelism: dp2
cluster:
  use: slurm-cpu-2-nodes
  slurm:
    stop_seconds_before_limit: 30
train:
  sequence_length: 32
  micro_batch_size: 2
  global_batch_size: 8
  train_samples: 80000
  learning_rate: 3e-4
evaluation:
  interval: 0
  sequences: 4
quantization:
  calibration_sequences: 4
"""


@dataclass
class Terminal:
    """qad-tui in a window of tmux."""

    socket: str

    def press(self, *keys: str) -> None:
        """Press keys one after another, as fast as a person does."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.3)

    def type(self, text: str) -> None:
        """Type letters."""
        self._tmux("send-keys", "-l", text)

    def screen(self) -> str:
        """What stands on the screen."""
        return self._tmux("capture-pane", "-p")

    def wait_for(self, pattern: str, seconds: float = 30.0) -> str:
        """Wait until the screen shows it; the screen."""
        return self.wait_until(lambda screen: re.search(pattern, screen) is not None, pattern, seconds)

    def wait_until(self, reached: Callable[[str], bool], what: str, seconds: float = 30.0) -> str:
        """Wait until the screen is as asked for; the screen."""
        deadline = time.monotonic() + seconds
        while not reached(screen := self.screen()):
            assert time.monotonic() < deadline, f"never came to show {what!r}:\n{screen}"
            time.sleep(LOOK_SECONDS)
        return screen

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self.socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@pytest.fixture
def terminal(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Terminal]:
    """qad-tui on a login node, in a terminal of 120 x 40."""
    experiments = tmp_path / "configs" / "experiments"
    experiments.mkdir(parents=True)
    (experiments / "on-two-nodes.yaml").write_text(EXPERIMENT, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "USER") if name in os.environ}
    environ = {
        **kept,
        **slurm.environ,
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
        "QAD_TUI_HOME": str(tmp_path / "home"),
        "QAD_CONFIGS": str(tmp_path / "configs"),
        "QAD_CHECKPOINT_ROOT": str(tmp_path / "runs"),
        "DATACACHE_DIR": str(tmp_path / "data"),
    }
    terminal = Terminal(f"qad-{os.getpid()}")
    variables = [f"{name}={value}" for name, value in environ.items()]
    command = shlex.join(["env", "-i", *variables, sys.executable, "-m", "qad_tui"])
    start = ["tmux", "-L", terminal.socket, "-u", "new-session", "-d", "-x", "120", "-y", "40", "-c", str(REPOSITORY)]
    subprocess.run([*start, command], check=True, timeout=20)
    yield terminal
    subprocess.run(["tmux", "-L", terminal.socket, "kill-server"], check=False, timeout=20)


def test_a_person_picks_checks_submits_watches_and_cancels(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("No runs yet")
    terminal.press("2")
    terminal.wait_for("model is missing")
    terminal.press("Enter")
    terminal.wait_for("type to narrow")
    terminal.type("two-nodes")
    terminal.press("Enter")
    terminal.wait_for("no problem")
    terminal.wait_for("#SBATCH")
    terminal.press("S")
    terminal.wait_for("takes the job as it stands")
    terminal.press("Tab")
    terminal.type("2")
    terminal.wait_for("--links 2")
    terminal.press("BTab", "j", "Enter")
    terminal.wait_for("o Overview")
    terminal.press("h")
    terminal.wait_for("(?s)1/2 .*● runs.*2/2 .*○ waits", SLOW_START_SECONDS)
    terminal.press("c")
    first = curve_end(terminal.wait_until(lambda screen: curve_end(screen) > 0, "a curve", SLOW_START_SECONDS))
    terminal.wait_until(lambda screen: curve_end(screen) > first, "a curve that grows", 120)
    terminal.press("l")
    terminal.wait_for(r"iteration \d+/10000")
    terminal.press("h")
    terminal.press("X")
    terminal.wait_for("Are you sure")
    terminal.press("j", "Enter")
    terminal.wait_for("(?s)(cancelled|saved).*(cancelled|saved)", SLOW_START_SECONDS)
    assert [run.state for run in find_runs([tmp_path / "runs"])] == ["stopped"]


def curve_end(screen: str) -> int:
    """Greatest number below the charts of the screen: how far the curves have come."""
    rows = [row.split() for row in screen.splitlines()]
    return max((int(row[-1]) for row in rows if len(row) > 1 and all(word.isdigit() for word in row)), default=0)
