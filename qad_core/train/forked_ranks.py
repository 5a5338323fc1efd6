"""Ranks forked from one process that has imported the trainer, for many ranks on few cores.

Owns processes only, as `launch/processes.py` does for ranks that are started anew, each of which imports torch and
megatron-core for itself: seconds of a core and hundreds of MiB a rank. What runs in a forked rank is `__main__.main`.
Nothing in the parent may have begun a process group, or a thread but pyarrow's allocator's, which knows of forks.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

import qad_core.train.loop  # noqa: F401 - imported here once, for all ranks
from qad_core.errors import ExitCode
from qad_core.launch.processes import FORWARDED, ProcessGroup, ProcessPlan, end_with_parent
from qad_core.train.__main__ import main

_MODULE = ("-m", "qad_core.train")


class ForkedProcess:
    """A forked process, with what `ProcessGroup` asks of one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Look whether it has ended; its exit code, or below 0 the signal that it died of."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, where it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)


def fork_ranks(plans: Sequence[ProcessPlan], *, keep_open: Sequence[int] = ()) -> ProcessGroup:
    """Fork a process for each plan of a `python -m qad_core.train ...`; they inherit every open file descriptor."""
    gc.freeze()  # a collection in a child would write to, and so copy, every page that they share
    return ProcessGroup([_fork(plan) for plan in plans])


def _fork(plan: ProcessPlan) -> ForkedProcess:
    if plan.argv[1:3] != _MODULE:
        raise ValueError(f"{plan.argv} is not the trainer")
    plan.output.parent.mkdir(parents=True, exist_ok=True)
    die_with_parent = end_with_parent(os.getpid())
    pid = os.fork()
    if pid:
        return ForkedProcess(pid)
    if die_with_parent is not None:
        die_with_parent()
    _become_rank(plan)


def _become_rank(plan: ProcessPlan) -> NoReturn:
    """Be in every way the process that the plan describes, and never return."""
    code = int(ExitCode.BUG)
    try:
        os.setsid()
        for number in FORWARDED:  # the launcher's handlers
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _redirect(plan)
        os.environ.clear()
        os.environ.update(plan.environment)
        code = main(plan.argv[3:], started=time.time())
    except KeyboardInterrupt:  # before the trainer hears of it; the launcher looks for a death by what it has sent
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # whatever it is, this copy of the launcher must not go on as one
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(plan: ProcessPlan) -> None:
    output = os.open(plan.output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
