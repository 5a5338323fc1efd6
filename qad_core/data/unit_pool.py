"""Units made on several processes at once; which process makes which does not matter to what comes out.

Owns the processes and what is told while they work. They are forked, so that the tokenizer is there
without being loaded again, and write their units themselves: no text and no token passes between them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import Any

from qad_core.data.sources import Unit
from qad_core.data.unit_maker import UnitCounts, UnitMaker
from qad_core.errors import OutsideError
from qad_core.run.show import count_of

SECONDS_BETWEEN_REPORTS = 2.0
SECONDS_BETWEEN_LOOKS = 0.2
Counted = tuple[int, int, int]
"""Documents, tokens and characters since the last report."""


def available_processes() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def make_units(
    units: Sequence[Unit],
    maker: UnitMaker,
    *,
    processes: int,
    tell: Callable[[str], None],
    on_counts: Callable[[Unit, UnitCounts], None],
) -> None:
    """Make every unit; `tell` gets lines to print, `on_counts` what became of each unit as it is there.

    Raises what the first unit that fails raises, OutsideError when a process was killed; the others then stop
    where they are.
    """
    progress = _Progress(len(units), tell)
    if processes == 1 or len(units) <= 1:
        for unit in units:
            counted = _Counter(progress.add)
            counts = maker.make(unit, tell, counted.count)
            counted.flush()
            progress.finish_unit()
            on_counts(unit, counts)
        return
    try:
        _make_in_processes(units, maker, min(processes, len(units)), progress, on_counts)
    except BrokenProcessPool as error:
        raise OutsideError(
            "a preparing process was killed, perhaps for memory", "Start again; it goes on from there."
        ) from error


class _Progress:
    """What is done so far, told every few seconds."""

    def __init__(self, units: int, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._units = units
        self._finished = 0
        self._sums = [0, 0, 0]
        self._last = time.monotonic()

    def add(self, counted: Counted) -> None:
        self._sums = [total + more for total, more in zip(self._sums, counted, strict=True)]
        if time.monotonic() - self._last > SECONDS_BETWEEN_REPORTS:
            self._last = time.monotonic()
            documents, tokens, characters = self._sums
            self.tell(
                f"  {self._finished:,} of {self._units:,} pieces; {count_of(documents, 'document')}, "
                f"{tokens:,} tokens, {characters:,} characters so far"
            )

    def finish_unit(self) -> None:
        self._finished += 1


class _Counter:
    """Sums documents up, so that a message is not sent for each."""

    def __init__(self, send: Callable[[Counted], None]) -> None:
        self._send = send
        self._counted = (0, 0, 0)
        self._last = time.monotonic()

    def count(self, tokens: int, characters: int) -> None:
        documents, all_tokens, all_characters = self._counted
        self._counted = (documents + 1, all_tokens + tokens, all_characters + characters)
        if time.monotonic() - self._last > SECONDS_BETWEEN_REPORTS / 2:
            self.flush()

    def flush(self) -> None:
        self._send(self._counted)
        self._counted, self._last = (0, 0, 0), time.monotonic()


def _make_in_processes(
    units: Sequence[Unit],
    maker: UnitMaker,
    processes: int,
    progress: _Progress,
    on_counts: Callable[[Unit, UnitCounts], None],
) -> None:
    context = multiprocessing.get_context("fork")
    messages = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(processes, context, _set_worker, (maker, messages)) as pool:
        unit_of = {pool.submit(_make_in_worker, unit): unit for unit in units}
        try:
            pending = set(unit_of)
            while pending:
                done, pending = wait(pending, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                _pass_on(messages, progress)
                for future in sorted(done, key=lambda future: unit_of[future].number):
                    progress.finish_unit()
                    on_counts(unit_of[future], future.result())
        except BaseException:
            # A unit may have minutes to go, or wait for a server.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
                process.join()
            raise


def _pass_on(messages: Any, progress: _Progress) -> None:
    while not messages.empty():
        message: str | Counted = messages.get()
        if isinstance(message, str):
            progress.tell(message)
        else:
            progress.add(message)


_maker: UnitMaker
_messages: Any


def _set_worker(maker: UnitMaker, messages: Any) -> None:
    # Each worker is a process of its own already; the tokenizer's own threads would only fight over the cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers itself
    Thread(target=_leave_with_parent, daemon=True).start()
    global _maker, _messages
    _maker, _messages = maker, messages


def _leave_with_parent() -> None:
    # A worker waits for work on a pipe that its siblings hold open too: it would outlive a killed parent for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make_in_worker(unit: Unit) -> UnitCounts:
    counter = _Counter(_messages.put)
    counts = _maker.make(unit, _messages.put, counter.count)
    counter.flush()
    return counts
