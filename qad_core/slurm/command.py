"""Runs one command to its end or its timeout; of SLURM it knows what hides a failure: a missing slurm.conf is waited
for, and a job whose folder is missing runs in another.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from qad_core.errors import RunError
from qad_core.slurm.errors import SlurmMissing
from qad_core.slurm.failures import no_answer


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """Path of a command of SLURM's.

    Raises SlurmMissing when it is not on the PATH, and when SLURM_CONF names no file, which the command would
    wait a minute for.
    """
    program = shutil.which(name, path=environ.get("PATH", os.defpath))
    if program is None:
        raise SlurmMissing(f"{name} is not on the PATH.", "Run this on a login node of a SLURM cluster.")
    configuration = environ.get("SLURM_CONF")
    if configuration and not Path(configuration).is_file():
        raise SlurmMissing(
            f"SLURM_CONF names {configuration}, which is no file that can be read.",
            "Let it name the cluster's slurm.conf, or unset it where SLURM finds its configuration by itself.",
        )
    return program


def chdir_option(chdir: Path | None) -> list[str]:
    """The option of sbatch for the folder that a job runs in; raises RunError for one that is not there."""
    if chdir is None:
        return []
    if not chdir.is_dir():
        raise RunError(f"{chdir} is no folder that a job could run in.", "Make it, or submit from another.")
    return [f"--chdir={chdir}"]


def run_in_time(
    command: Sequence[str], environ: Mapping[str, str], seconds: float, *, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What the command printed and its exit code; `stdin` is its input, None for none.

    Raises SlurmUnavailable when it takes longer than `seconds`. Then, and when we are interrupted, its whole
    process group is killed.
    """
    with (
        _ctrl_c_held() as let_go,
        subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            let_go()
            stdout, stderr = process.communicate(stdin, timeout=seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise no_answer(f"{Path(command[0]).name} said nothing in {seconds:g} s") from error
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@contextlib.contextmanager
def _ctrl_c_held() -> Generator[Callable[[], None]]:
    """Keep Ctrl-C waiting until what is yielded is called, or the end.

    One that came while the command is being started would leave it to itself: in its own session it does not hear
    of Ctrl-C, and an sbatch could put a job into the queue minutes after we have said what is there. A blocked signal
    would not do: another thread may take it, and Python then runs the handler in this one all the same.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None  # no handler of Python's can come between
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))

    def let_go() -> None:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(came.pop())

    try:
        yield let_go
    finally:
        let_go()
