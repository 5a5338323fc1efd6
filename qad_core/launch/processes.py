"""Starts the processes of one machine, passes signals on to them, and ends all when one has failed.

Owns processes only: it knows neither configs nor run folders. Every process is in a session of its
own, so that Ctrl-C in a terminal reaches the launcher alone, which passes it on once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from qad_core.errors import ExitCode

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
ORDERLY = (ExitCode.DONE, ExitCode.STOPPED_EARLY)
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
GRACE_SECONDS = 15.0
"""When one process failed, the others get so long to fail by themselves: most errors hit all of them."""
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ProcessPlan:
    """One process to start."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """The whole environment."""
    output: Path
    """File that takes stdout and stderr."""


class Process(Protocol):
    """A process of ours, as `subprocess.Popen` has it."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """Its exit code, below 0 the signal that it died of; None while it lives."""
        ...

    def poll(self) -> int | None:
        """Look whether it has ended; its `returncode`."""
        ...

    def send_signal(self, number: int, /) -> None:
        """Send it a signal, where it lives."""
        ...


@dataclass
class ProcessGroup:
    """Processes that live and end together."""

    processes: Sequence[Process]
    first_failure: tuple[int, int] | None = None
    """Index and return code of the process that failed first."""
    sent: set[int] = field(default_factory=set[int])
    """Signals passed on: a process that dies of one was stopped, it did not fail."""
    killed_by_us: bool = False
    """Whether the grace was over and the rest was killed: such a death is no failure's cause."""
    _ends_at: float | None = field(default=None, repr=False)
    """Monotonic time at which those that still live are killed."""

    def send(self, number: int) -> None:
        """Pass a signal on to every process that lives."""
        self.sent.add(number)
        self._signal_living(number)

    def running(self) -> bool:
        """Whether any process lives; kills the rest when one failed and the grace is over."""
        codes = [process.poll() for process in self.processes]
        self._note_failure(codes)
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            self.killed_by_us = True
            self._signal_living(signal.SIGKILL)
        return any(code is None for code in codes)

    def end_soon(self) -> None:
        """Give those that live the grace to end by themselves, counted from the first call."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + GRACE_SECONDS

    def exit_code(self) -> int:
        """Exit code of the whole group once none runs: the first failure's, else 3 when any stopped early, else 0."""
        if self.died_of_sent_signal():
            return ExitCode.STOPPED_EARLY
        if self.first_failure is not None:
            return exit_code_of(self.first_failure[1])
        return max(process.returncode or ExitCode.DONE for process in self.processes)

    def died_of_sent_signal(self) -> str:
        """Name of the signal of ours that ended the group before it could save, or an empty string."""
        code = 0 if self.first_failure is None else -self.first_failure[1]
        return signal.Signals(code).name if code in self.sent else ""

    def _signal_living(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def _note_failure(self, codes: Sequence[int | None]) -> None:
        failed = [(index, code) for index, code in enumerate(codes) if code is not None and code not in ORDERLY]
        if self.first_failure is None and failed:
            # Of those seen at once, one that died of a signal: the others miss it.
            self.first_failure = next((item for item in failed if item[1] < 0), failed[0])
            self.end_soon()


class Starter(Protocol):
    """What starts processes: `start_processes`, or another way to the same group."""

    def __call__(self, plans: Sequence[ProcessPlan], *, keep_open: Sequence[int] = ()) -> ProcessGroup:
        """Start all processes; the file descriptors `keep_open` stay open in them."""
        ...


def start_processes(plans: Sequence[ProcessPlan], *, keep_open: Sequence[int] = ()) -> ProcessGroup:
    """Start all processes; the file descriptors `keep_open` stay open in them."""
    return ProcessGroup([_start(plan, keep_open) for plan in plans])


def wait_for(
    group: ProcessGroup,
    received: list[int],
    each_poll: Callable[[], None],
    keep_in_step: Callable[[ProcessGroup], None] = lambda group: None,
) -> int:
    """Wait until all processes have ended, passing on signals as they arrive in `received`; the exit code.

    A second SIGINT kills: whoever presses Ctrl-C twice does not want to wait for the save.
    `keep_in_step` may look at the group at each round and tell it to end soon.
    """
    interrupts = 0
    while group.running():
        while received:
            number = received.pop(0)
            interrupts += number == signal.SIGINT
            group.send(signal.SIGKILL if interrupts > 1 else _meaning(number))
        keep_in_step(group)
        each_poll()
        time.sleep(POLL_SECONDS)
    group.sent.update(_meaning(number) for number in received)  # some may have hit the processes directly
    keep_in_step(group)
    each_poll()
    return group.exit_code()


@contextlib.contextmanager
def caught_signals(on_signal: Callable[[int], None] = lambda number: None) -> Generator[list[int]]:
    """Collect the forwarded signals in a list instead of acting on them; `on_signal` hears of each at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        on_signal(number)

    before = {number: signal.signal(number, note) for number in FORWARDED}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code_of(return_code: int) -> int:
    """Exit code for our caller: a process's own code, and for death by a signal a bug (a crash) or the outside."""
    if return_code >= 0:
        return return_code
    return ExitCode.BUG if -return_code in CRASHES else ExitCode.OUTSIDE_FAILED


def describe_failure(index: int, return_code: int) -> tuple[str, str]:
    """What happened to the process that failed first, and what to do about it."""
    if return_code >= 0:
        return f"rank {index} ended with exit code {return_code}", "Its log says why."
    name = signal.Signals(-return_code).name
    if -return_code == signal.SIGKILL:
        return f"rank {index} was killed by SIGKILL", "Most often memory ran out: try a smaller micro_batch_size."
    return f"rank {index} was ended by {name}", "Start again: it goes on from the newest checkpoint."


def _meaning(number: int) -> int:
    """A lost terminal means stop and save, which the trainer does on SIGTERM."""
    return signal.SIGTERM if number == signal.SIGHUP else number


def _start(plan: ProcessPlan, keep_open: Sequence[int]) -> subprocess.Popen[bytes]:
    plan.output.parent.mkdir(parents=True, exist_ok=True)
    with plan.output.open("ab") as output:
        return subprocess.Popen(
            plan.argv,
            env=dict(plan.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(keep_open),
            preexec_fn=end_with_parent(os.getpid()),
        )


def end_with_parent(parent: int) -> Callable[[], None] | None:
    """On Linux, have the kernel send SIGTERM when the launcher dies, so that no rank trains on unwatched."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(ExitCode.OUTSIDE_FAILED)

    return ask_kernel
