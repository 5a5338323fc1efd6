"""What qad-tui costs with 200 runs, 20 of them growing, and a squeue that hangs: first frame, keys, CPU at rest.

The application runs in a terminal of its own (a pty of 120 x 40), started as a user starts it; its processor time is
read from the kernel, the growing is another process. `python -m benchmarks.tui_fleet` prints the figure.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import psutil

from benchmarks.figure import Figure, print_figure
from qad_core.commands.output import console
from qad_core.run.jobs import Job, append_job
from qad_tui.app import REST_SECONDS
from tests.tui.made_fleet import NO_PROCESS, FakeRun

RUNS, LIVE = 200, 20
COLUMNS, ROWS = 120, 40
BOUND_FRAME, BOUND_KEY, BOUND_CPU = 0.4, 0.05, 0.03
HANG_SECONDS = 60


@dataclass
class Screen:
    """A program on a terminal of its own."""

    process: subprocess.Popen[bytes]
    terminal: int
    started: float

    def read(self, seconds: float) -> bytes:
        """What it prints within so many seconds, as soon as it prints anything."""
        ready, _, _ = select.select([self.terminal], [], [], seconds)
        return os.read(self.terminal, 1 << 20) if ready else b""

    def wait_for(self, text: bytes, seconds: float) -> float:
        """Seconds since its start until it has printed the text."""
        seen = b""
        while time.perf_counter() - self.started < seconds:
            seen += self.read(0.01)
            if text in seen:
                return time.perf_counter() - self.started
        raise TimeoutError(f"{text!r} was not printed within {seconds} s")

    def drain(self, seconds: float) -> None:
        """Read whatever it prints for so long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.read(left)


@contextmanager
def open_screen(root: Path, environ: dict[str, str]) -> Iterator[Screen]:
    """`qad-tui ROOT`, killed at the end."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "qad_tui", str(root)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,  # where Textual draws
        env={**environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Screen(process, ours, started)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def measure_fleet(*, seconds: float = 20.0, keys: int = 200, repeats: int = 5) -> Figure:
    """First frame (median of `repeats`), latency of `keys` keys, CPU over `seconds` at rest."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        make_runs(root)
        environ = environment(Path(folder))
        frames = [first_frame(root, environ) for _ in range(repeats)]
        with growing(root), open_screen(root, environ) as screen:
            screen.wait_for(b"held-out KL", 30)
            screen.drain(REST_SECONDS + 5)
            share = cpu_share(screen, seconds)
            latencies = key_latencies(screen, keys)
            memory = psutil.Process(screen.process.pid).memory_info().rss / 2**20
    return describe(frames, latencies, share, memory)


def make_runs(root: Path) -> None:
    """180 runs that have ended, and 20 of this machine that live, some with a link in the queue."""
    now = time.time()
    for number in range(RUNS):
        live = number < LIVE
        run = FakeRun(root, f"student-Teacher-teacher-Data-mixed-lr1e-06-{number:03}", 100_000, now - 400)
        run.pid = os.getpid() if live else NO_PROCESS
        run.train(500)
        run.set_status("training" if live else "done", updated=now)
        if number % 4 == 0:
            job = Job(id=f"slurm-{number}", kind="slurm", chain="c", link=1, links=3, slurm_job_id=str(1000 + number))
            append_job(run.folder.jobs, job)


def environment(folder: Path) -> dict[str, str]:
    """PATH with a squeue that hangs, settings of its own."""
    commands = folder / "bin"
    commands.mkdir()
    for name in ("squeue", "sinfo", "sacct", "scontrol"):
        (commands / name).write_text(f"#!/bin/sh\nsleep {HANG_SECONDS}\n", encoding="utf-8")
        (commands / name).chmod(0o755)
    return {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "QAD_TUI_HOME": str(folder / "home")}


def first_frame(root: Path, environ: dict[str, str]) -> float:
    """Seconds from the start of the process to the first frame, which has the bar and the keys."""
    with open_screen(root, environ) as screen:
        return screen.wait_for(b"Quit", 30)


@contextmanager
def growing(root: Path) -> Iterator[None]:
    """Another process that lets the live runs do a step a second."""
    grower = subprocess.Popen([sys.executable, "-m", "benchmarks.tui_fleet", "--grow", str(root)])
    try:
        yield
    finally:
        grower.kill()
        grower.wait()


def grow(root: Path) -> None:
    """Do a step a second in each of the live runs, until killed."""
    runs = [FakeRun.again(path, 100_000, pid=os.getppid()) for path in sorted(root.iterdir())[:LIVE]]
    while True:
        began = time.time()
        for run in runs:
            run.step += 1
            run.write_step(0.2 + random.random() / 10)
            run.set_status("training", updated=time.time())
        time.sleep(max(0.0, 1 - (time.time() - began)))


def cpu_share(screen: Screen, seconds: float) -> float:
    """Share of one core that the process takes while nobody touches it."""
    process = psutil.Process(screen.process.pid)
    before, began = process.cpu_times(), time.perf_counter()
    screen.drain(seconds)
    after, took = process.cpu_times(), time.perf_counter() - began
    return (after.user + after.system - before.user - before.system) / took


def key_latencies(screen: Screen, keys: int) -> list[float]:
    """Seconds from a key to the first thing that is printed after it, at random moments."""
    found: list[float] = []
    for number in range(keys):
        screen.drain(0.05 + random.random() / 5)
        began = time.perf_counter()
        os.write(screen.terminal, b"j" if number % 20 < 10 else b"k")
        while not screen.read(5):
            raise TimeoutError("a key was not answered within 5 s")
        found.append(time.perf_counter() - began)
    return found


def describe(frames: Sequence[float], latencies: Sequence[float], share: float, memory: float) -> Figure:
    """The figure."""
    frame, key = median(frames), quantiles(latencies, n=20)[-1]
    return Figure(
        title=f"qad-tui with {RUNS} runs, {LIVE} of them growing, squeue hanging",
        columns=("", ">measured", ">bound"),
        rows=(
            ("first frame, seconds from the start of the process", f"{frame:.3f}", f"{BOUND_FRAME}"),
            ("a key is answered, 95th percentile, ms", f"{1000 * key:.0f}", f"{1000 * BOUND_KEY:.0f}"),
            ("a key is answered, median, ms", f"{1000 * median(latencies):.0f}", "-"),
            ("at rest, % of one core", f"{100 * share:.1f}", f"{100 * BOUND_CPU:.0f}"),
            ("resident memory, MiB", f"{memory:.0f}", "-"),
        ),
        sentences=(
            _verdict("First frame", frame, BOUND_FRAME),
            _verdict("Keys", key, BOUND_KEY),
            _verdict("At rest", share, BOUND_CPU),
            "A terminal of 120 x 40 with the run under the cursor beside the list: its curve and its log are read on.",
        ),
        data={"first_frame": list(frames), "keys": list(latencies), "cpu_share": share, "memory_mib": memory},
    )


def _verdict(what: str, value: float, bound: float) -> str:
    return f"{what}: {'within' if value <= bound else 'NOT within'} the bound."


def main() -> None:
    """Print the figure, or grow."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--grow", type=Path, metavar="ROOT")
    arguments = parser.parse_args()
    if arguments.grow is not None:
        grow(arguments.grow)
    print_figure(measure_fleet(), console())


if __name__ == "__main__":
    main()
