"""What qad-tui costs with 200 runs, 20 of them growing, and a squeue that hangs: first frame, keys, CPU at rest.

The application runs in a terminal of its own (a pty of 120 x 40), started as a user starts it; its processor time is
read from the kernel, the growing is another process. Beside it stand the same rows in Textual's DataTable.
`python -m benchmarks.tui_fleet` prints the figure; `--small` measures little, to see that it works.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import psutil

from benchmarks import tui_data_table
from benchmarks.figure import Figure, print_figure
from benchmarks.tui_screen import Screen, open_screen, rows_of
from qad_core.commands.output import console
from qad_core.run.jobs import Job, append_job
from qad_tui.app import REST_SECONDS
from tests.tui.made_fleet import NO_PROCESS, FakeRun

RUNS, LIVE = 200, 20
BOUND_FRAME, BOUND_KEY, BOUND_CPU = 0.4, 0.05, 0.03
HANG_SECONDS = 60
NEXT_HANG_SECONDS = 400.0
"""Where the first squeue was given up before everything was on the screen, the next comes minutes later."""
ANSWER_SECONDS = 5.0
"""A key without an answer for so long counts as lost."""
CURSOR_MARK = "▌".encode()
FRAME_READY = b"Quit"
"""In the last line of a first frame: the bar of keys."""
KEYS_DOWN = 10
"""So many keys go down, then as many up, which scrolls nothing."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    frames: int = 7
    keys: int = 200
    rest_seconds: float = 20.0
    settle_seconds: float = REST_SECONDS + 5
    """After the last key until the screen is at rest."""


SMALL = Effort(frames=1, keys=6, rest_seconds=1.0, settle_seconds=1.0)


@dataclass(frozen=True, eq=False)
class Program:
    """One of the programs that are measured, and how to read its screen."""

    name: str
    argv: Sequence[str]
    environ: dict[str, str]
    mark: bytes
    settled: bytes
    """What it has printed once everything is there."""
    hangs: Callable[[Screen], bool]
    """Whether it waits for SLURM now; always, where it asks no SLURM."""


@dataclass
class Costs:
    """What was measured of a program; seconds, MiB and a share of one core."""

    frames: list[float] = field(default_factory=list[float])
    keys: list[float] = field(default_factory=list[float])
    cpu_share: float = 0.0
    mebibytes: float = 0.0


def measure_fleet(effort: Effort | None = None) -> Figure:
    """First frame, keys and CPU at rest, of qad-tui and of a DataTable."""
    effort = effort or Effort()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        make_runs(root)
        ours = Program(
            "qad-tui",
            [sys.executable, "-m", "qad_tui", str(root)],
            environment(Path(folder)),
            CURSOR_MARK,
            b"held-out KL",
            waits_for_squeue,
        )
        usual = Program(
            "Textual's DataTable, refilled each second",
            [sys.executable, "-m", "benchmarks.tui_data_table", str(RUNS), str(LIVE)],
            dict(os.environ),
            tui_data_table.CURSOR_MARK,
            tui_data_table.READY,
            lambda screen: True,
        )
        costs = {ours: Costs(), usual: Costs()}
        for _ in range(effort.frames):
            for program, cost in costs.items():
                cost.frames.append(first_frame(program))
        with growing(root):
            for program, cost in costs.items():
                measure(program, cost, effort)
    return describe(costs[ours], costs[usual])


def measure(program: Program, costs: Costs, effort: Effort) -> None:
    """Keys of one program, and what it costs when it is left alone."""
    while len(costs.keys) < effort.keys:
        costs.keys += key_latencies(program, effort.keys - len(costs.keys))
    with open_screen(program.argv, program.environ) as screen:
        screen.wait_for(program.settled, 90)
        screen.drain(effort.settle_seconds)
        costs.cpu_share = screen.cpu_share(effort.rest_seconds)
        costs.mebibytes = screen.mebibytes()


def first_frame(program: Program) -> float:
    """Seconds from the start of the process to the first frame, which has the bar of keys."""
    with open_screen(program.argv, program.environ) as screen:
        return screen.wait_for(FRAME_READY, 30)


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


def waits_for_squeue(screen: Screen) -> bool:
    """Whether a squeue of the program hangs at this moment."""
    try:
        return any(child.name() == "squeue" for child in psutil.Process(screen.process.pid).children())
    except psutil.NoSuchProcess:  # one of them was killed between the two questions
        return False


def key_latencies(program: Program, keys: int) -> list[float]:
    """Seconds from a key to the cursor in its new row, at random moments while SLURM hangs.

    The program is started for that, since it kills a squeue that hangs and then asks for a long time no more: up to
    `keys` answers, as many as fit before that.
    """
    found: list[float] = []
    with open_screen(program.argv, program.environ) as screen:
        seen = screen.wait_until(lambda seen: program.settled in seen, 150)
        seen = screen.wait_until(lambda _: program.hangs(screen), NEXT_HANG_SECONDS, seen)
        row = rows_of(program.mark, seen)[-1]
        while len(found) < keys:
            moved = rows_of(program.mark, screen.drain(0.05 + random.random() / 5))
            row = moved[-1] if moved else row
            down = len(found) % (2 * KEYS_DOWN) < KEYS_DOWN
            row += 1 if down else -1
            try:
                seconds = screen.answer(
                    b"j" if down else b"k", lambda seen, row=row: row in rows_of(program.mark, seen), ANSWER_SECONDS
                )
            except TimeoutError:  # counts as so long; where the cursor stands now, a new start knows
                return [*found, ANSWER_SECONDS] if program.hangs(screen) else found
            if not program.hangs(screen):
                break
            found.append(seconds)
    return found


def describe(ours: Costs, usual: Costs) -> Figure:
    """The figure."""
    frame, key = median(ours.frames), _percentile_95(ours.keys)
    return Figure(
        title=f"qad-tui with {RUNS} runs, {LIVE} of them growing, squeue hanging",
        columns=("", ">qad-tui", ">bound", ">DataTable"),
        rows=(
            (
                "first frame from the start of the process, median, ms",
                *_cells(median, ours.frames, usual.frames, BOUND_FRAME),
            ),
            ("its worst", *_cells(max, ours.frames, usual.frames)),
            ("cursor in its new row after a key, median, ms", *_cells(median, ours.keys, usual.keys)),
            ("95th percentile", *_cells(_percentile_95, ours.keys, usual.keys, BOUND_KEY)),
            (
                "at rest, % of one core",
                f"{100 * ours.cpu_share:.1f}",
                f"{100 * BOUND_CPU:.0f}",
                f"{100 * usual.cpu_share:.1f}",
            ),
            ("resident memory, MiB", f"{ours.mebibytes:.0f}", "-", f"{usual.mebibytes:.0f}"),
        ),
        sentences=(
            _verdict("First frame", frame, BOUND_FRAME),
            _verdict("Keys", key, BOUND_KEY),
            _verdict("At rest", ours.cpu_share, BOUND_CPU),
            f"{len(ours.keys)} keys, each while a squeue hung; {_unanswered(ours)} of them had no answer within "
            f"{ANSWER_SECONDS:g} s ({_unanswered(usual)} of the DataTable's).",
            "A terminal of 120 x 40 with the run under the cursor beside the list: its curve and its log are read on.",
            "The DataTable holds made-up rows of its own: it reads no files and asks no SLURM.",
        ),
        data={"qad_tui": vars(ours), "data_table": vars(usual)},
    )


def _cells(
    summary: Callable[[list[float]], float], ours: list[float], usual: list[float], bound: float | None = None
) -> tuple[str, str, str]:
    return (
        f"{1000 * summary(ours):.0f}",
        "-" if bound is None else f"{1000 * bound:.0f}",
        f"{1000 * summary(usual):.0f}",
    )


def _unanswered(costs: Costs) -> int:
    return sum(seconds >= ANSWER_SECONDS for seconds in costs.keys)


def _percentile_95(values: Sequence[float]) -> float:
    return quantiles(values, n=20)[-1]


def _verdict(what: str, value: float, bound: float) -> str:
    return f"{what}: {'within' if value <= bound else 'NOT within'} the bound."


def main() -> None:
    """Print the figure, or grow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="measure little")
    parser.add_argument("--grow", type=Path, metavar="ROOT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.grow is not None:
        grow(arguments.grow)
    print_figure(measure_fleet(SMALL if arguments.small else None), console())


if __name__ == "__main__":
    main()
