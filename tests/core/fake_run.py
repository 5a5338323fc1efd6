"""A launcher around ranks without a model, as real processes: `FOLDER PROCESSES MODE` starts `fake_rank.py`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from qad_core.config.load import ResolvedConfig, load_experiment
from qad_core.errors import QadError
from qad_core.launch.plan import LaunchPlan, make_plan
from qad_core.launch.run_local import run_local

FAKE_RANK = Path(__file__).with_name("fake_rank.py")


def fake_plan(
    folder: Path, mode: str, processes: int = 1, *, environ: Mapping[str, str] | None = None, overrides: str = ""
) -> tuple[LaunchPlan, ResolvedConfig]:
    """The plan of the tiny experiment with ranks that only behave as `mode` says."""
    environ = environ or {}
    resolved = load_experiment("tiny", [f"cluster.processes_per_node={processes}", *overrides.split()], environ)
    plan = make_plan(resolved.config, folder, environ)
    argv = (sys.executable, str(FAKE_RANK), str(folder), mode)
    return dataclasses.replace(plan, argv=argv, prepare=None), resolved


def launch(folder: Path, processes: int, mode: str) -> int:
    """What `qad_core train` does, around the fake ranks."""
    nodes = f"cluster.nodes={os.environ['NNODES']}" if "NNODES" in os.environ else ""
    plan, resolved = fake_plan(folder, mode, processes, environ=os.environ, overrides=nodes)
    try:
        return run_local(plan, resolved, each_poll=lambda: None).exit_code
    except QadError as error:
        print(error)
        return error.exit_code


def start_launcher(folder: Path, mode: str, processes: int = 1, **environment: str) -> subprocess.Popen[str]:
    """The launcher as a process of its own."""
    argv = [sys.executable, "-m", "tests.core.fake_run", str(folder), str(processes), mode]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})


def wait_for_rank(folder: Path, rank: int = 0) -> dict[str, str]:
    """What a rank has written, once it has."""
    path = folder / f"rank{rank}.json"
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)
    return json.loads(path.read_text())


if __name__ == "__main__":
    sys.exit(launch(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
