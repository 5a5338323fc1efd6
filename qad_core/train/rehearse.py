"""Entry of a rehearsal: `python -m qad_core.train.rehearse RUN_FOLDER STOP_STEP`, a start that stops and its resume.

The run folder holds the config of a whole run. The first start ends after STOP_STEP, saved; the second loads that
and goes on to the end. Each is a start like any other (`launch/run_local.py`), but that its ranks are forked.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from qad_core.config.load import ResolvedConfig, read_resolved
from qad_core.errors import ExitCode, QadError, explain_os_error
from qad_core.launch.plan import make_plan
from qad_core.launch.processes import caught_signals
from qad_core.launch.run_local import run_local
from qad_core.run.folder import RunFolder
from qad_core.run.status import read_status
from qad_core.train.forked_ranks import fork_ranks


def main() -> int:
    """Start, stop and resume; the exit code of the start that failed or of a signal, else 0."""
    arguments = _parse_arguments()
    folder = RunFolder(Path(arguments.run_folder).resolve())
    try:
        with caught_signals() as received:  # between the starts, too; each start catches them for itself
            return _start_twice(folder, arguments.stop_step, received)
    except (QadError, OSError) as error:
        explained = error if isinstance(error, QadError) else explain_os_error(error)
        print(f"error: {explained}", file=sys.stderr)
        return explained.exit_code


def _start_twice(folder: RunFolder, stop_step: int, received: list[int]) -> int:
    resolved = read_resolved(folder.config)
    code = _start(folder, _stopping(resolved, stop_step), received)
    return _start(folder, resolved, received) if _has_stopped_itself(folder, code) else code


def _stopping(resolved: ResolvedConfig, step: int) -> ResolvedConfig:
    config = resolved.config
    train = config.train.model_copy(update={"exit_iteration": step})
    return replace(resolved, config=config.model_copy(update={"train": train}))


def _has_stopped_itself(folder: RunFolder, code: int) -> bool:
    """Whether the first start has ended as it should, and not by a signal."""
    status = read_status(folder.status)
    return code == ExitCode.STOPPED_EARLY and status is not None and status.reason.startswith("exit_iteration")


def _start(folder: RunFolder, resolved: ResolvedConfig, received: list[int]) -> int:
    """One start, unless a signal has come before it; `received` hears of those that come in it."""
    if received:
        return ExitCode.STOPPED_EARLY
    plan = make_plan(resolved.config, folder.path, os.environ)
    ending = run_local(plan, resolved, on_signal=received.append, start_ranks=fork_ranks, each_poll=lambda: None)
    return ending.exit_code


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qad_core.train.rehearse", description=__doc__)
    parser.add_argument("run_folder", help="run folder with a resolved config.yaml")
    parser.add_argument("stop_step", type=int, help="step after which the first start ends")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
