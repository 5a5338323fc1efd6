"""Runs one module of the trainer alone: in a process that is no rank of a job, and ends in order when it is stopped.

Two sides of it: `run_alone` for the command, which waits, passes signals on and reads the answer; and `python -m
qad_core.launch.alone MODULE ...` around the module, which makes a KeyboardInterrupt of them, so that the module clears
away what it has not finished. The module writes an `Answer` to the file of --answer and ends with its exit code.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from qad_core.errors import BugError, ExitCode, OutsideError, RunError
from qad_core.launch.processes import FORWARDED, ProcessGroup, caught_signals, end_with_parent, wait_for
from qad_core.run.answer import Answer, Report

DROPPED, STANDARD_OUTPUT, STANDARD_ERROR = subprocess.DEVNULL, 1, 2
"""Where the module's standard output may go; its standard error is ours."""
_OF_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables of a job that the command may be called in."""
_OF_TORCHRUN = "TORCHELASTIC_"


def run_alone(what: str, module: str, arguments: Sequence[str], form: type[Answer[Report]], *, output: int) -> Report:
    """Run `python -m module arguments --answer FILE` to its end; its report.

    `what` is its work in messages. Raises the QadError that it answers, RunError where a signal to us has ended it,
    OutsideError where it was killed, and BugError where it ends without an answer. Call it in the main thread: it
    catches signals meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder, caught_signals() as received:
        answer = Path(folder) / "answer.json"
        argv = [sys.executable, "-m", "qad_core.launch.alone", module, *arguments, "--answer", str(answer)]
        process = subprocess.Popen(
            argv,
            env=lone_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,
            preexec_fn=end_with_parent(os.getpid()),
        )
        group = ProcessGroup([process])
        code = wait_for(group, received, lambda: None)
        found = _read(answer, form)
    if group.sent and (found is None or found.report is None):
        names = " and ".join(signal.Signals(number).name for number in sorted(group.sent))
        stopped = RunError(f"{what} was ended by {names}", "Start it again from the beginning.")
        stopped.exit_code = ExitCode.STOPPED_EARLY
        raise stopped
    if process.returncode == -signal.SIGKILL:
        raise OutsideError(f"{what} was killed by SIGKILL", "Most often memory ran out.")
    if found is None:
        raise BugError(f"{what} ended with exit code {code} and no answer", "See what it printed.")
    return found.take_report(code)


def lone_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables of ranks, in which packages warn of nothing."""
    kept = {
        name: value for name, value in environ.items() if name not in _OF_RANKS and not name.startswith(_OF_TORCHRUN)
    }
    return {**kept, "PYTHONWARNINGS": "ignore"}  # pages of them, on packages that are not needed


def _read(answer: Path, form: type[Answer[Report]]) -> Answer[Report] | None:
    try:
        return form.model_validate_json(answer.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def main(argv: Sequence[str]) -> int:
    """Run the module that the first argument names with the others; its exit code."""
    for number in FORWARDED:
        signal.signal(number, signal.default_int_handler)
    sys.argv = list(argv)
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        return ExitCode.STOPPED_EARLY
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
