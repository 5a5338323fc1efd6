"""A module that works alone is no rank of a job, and clears its unfinished work away when its command is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qad_core.errors import ExitCode
from qad_core.launch.alone import lone_environment

MODULE = """
import sys, time
from pathlib import Path
begun = Path("begun")
begun.touch()
try:
    time.sleep(60)
finally:
    begun.rename("cleared")
"""
COMMAND = """
import sys
from qad_core.errors import QadError
from qad_core.launch.alone import run_alone, DROPPED
from qad_core.run.export_report import ExportAnswer
try:
    run_alone("The export", "slow_module", [], ExportAnswer, output=DROPPED)
except QadError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_command_the_module_ends_with_it_in_order(number: int, tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(MODULE)
    repository = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{repository}:{tmp_path}"}
    argv = [sys.executable, "-c", COMMAND]
    command = subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    _wait_for(tmp_path / "begun")
    command.send_signal(number)
    said, _ = command.communicate(timeout=120)
    _wait_for(tmp_path / "cleared")
    if number != signal.SIGKILL:
        assert command.returncode == ExitCode.STOPPED_EARLY
        assert f"was ended by {signal.Signals(number).name}" in said


def _wait_for(path: Path) -> None:
    ends_at = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < ends_at, f"{path} never came"
        time.sleep(0.05)


def test_variables_of_ranks_stay_behind() -> None:
    of_ranks = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "a"}
    assert lone_environment({**of_ranks, "HOME": "/home"}) == {"HOME": "/home", "PYTHONWARNINGS": "ignore"}
