"""What it costs to look into a log of one gigabyte: `python -m benchmarks.tui_log [--megabytes N]`.

The log view's parts are timed alone, and the screen from the key press to the lines, without a terminal. Beside it
stand `tail` and `grep` for the same work.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from benchmarks.figure import Figure, print_figure
from qad_core.commands.output import console
from qad_core.run.log_search import LogPattern, Matcher, search_log
from qad_core.run.log_signs import ErrorLines
from qad_tui.app import QadApp
from qad_tui.log_tail import LogTail
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.settings import Settings, SettingsStore
from qad_tui.widgets.log_view import LogView

REPEATS = 7
BOUND_SECONDS, BOUND_MEGABYTES = 0.1, 30.0
LOG_NAME = "student_qad_2026-01-01_12-00-00"


def measure_log(megabytes: int = 1000) -> Figure:
    """Medians over a made log of so many megabytes, which is deleted again."""
    with tempfile.TemporaryDirectory(prefix="qad-tui-log-") as folder:
        run = Path(folder) / "runs" / "long"
        (run / "logs").mkdir(parents=True)
        (run / "config.yaml").write_text("loss: qad\n", encoding="utf-8")
        (run / "logs" / f"{LOG_NAME}.log").write_text("a short log\n", encoding="utf-8")
        path = run / "logs" / f"{LOG_NAME}_rank1.log"
        lines = write_log(path, megabytes * 1_000_000)
        tail, added = walk(path)
        shown = median([asyncio.run(seconds_to_lines(run)) for _ in range(REPEATS)])
        seconds = {
            "open": median(time_often(lambda: LogTail(path).poll())),
            "from the key to the screen": shown,
            "jump to the beginning": median(time_often(lambda: tail.go_to(0))),
            "jump to the middle": median(time_often(lambda: tail.go_to(path.stat().st_size // 2))),
            "search plain words": median(time_search(path, LogPattern("nowhere at all"))),
            "search an expression": median(time_search(path, LogPattern(r"grad norm [5-9]\.\d+"))),
            "first error": median(time_search(path, ErrorLines())),
            "tail -n 2000": median(time_often(lambda: call("tail", "-n", "2000", str(path)))),
            "grep -i": median(time_often(lambda: call("grep", "-i", "nowhere at all", str(path)), repeats=3)),
        }
        return make_figure(path.stat().st_size, lines, seconds, added)


def write_log(path: Path, size: int) -> int:
    """Lines as the trainer writes them, and an error at the very end; their number."""
    block = "".join(
        f"2026-01-01 12:{step // 60 % 60:02d}:{step % 60:02d} INFO iteration {step}/500000 "
        f"| loss/kd 0.{step % 9973:04d} | learning rate 1.000e-06 | grad norm 0.{step % 7919:04d} "
        f"| {400 + step % 37} ms | {1200 + step % 211} tokens/s\n"
        for step in range(20_000)
    ).encode()
    blocks = max(1, size // len(block))
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(block)
        file.write(b"RuntimeError: CUDA out of memory\n")
    return blocks * 20_000 + 1


def walk(path: Path) -> tuple[LogTail, float]:
    """A tail that has been all over the file, and the megabytes of memory that this has added at most."""
    process = psutil.Process()
    before = most = process.memory_info().rss
    tail = LogTail(path)
    for step in (tail.poll, *[tail.read_older] * 40, lambda: tail.go_to(0), *[tail.read_newer] * 60, tail.go_to_end):
        step()
        most = max(most, process.memory_info().rss)
    return tail, (most - before) / 1e6


async def seconds_to_lines(run: Path) -> float:
    """From the key that goes to the next log to its last line on the screen."""
    app = QadApp([run.parent], settings=SettingsStore(run.parent / "home", Settings()))
    async with app.run_test(size=(120, 40)) as pilot:
        while not app.fleet.rows:
            await pilot.pause(0.01)
        app.open_run(next(iter(app.fleet.rows)), tab="log")
        while "a short log" not in shown_text(app):
            await pilot.pause(0.01)
        await pilot.pause(0.5)
        started = time.perf_counter()
        await pilot.press("right_square_bracket")
        while "CUDA out of memory" not in shown_text(app):
            await asyncio.sleep(0.001)
        return time.perf_counter() - started


def shown_text(app: QadApp) -> str:
    """What of the log is on the screen."""
    views = app.screen.query(LogView) if isinstance(app.screen, RunDetailScreen) else ()
    return "\n".join(view.render_line(y).text for view in views for y in range(view.size.height))


def time_often(work: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Seconds of each of some repeats."""
    seconds: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def time_search(path: Path, matcher: Matcher) -> list[float]:
    """Seconds of searching the whole file."""
    return time_often(lambda: search_log(path, matcher, 0, forward=True), repeats=3)


def call(*argv: str) -> None:
    """Run another program, and throw away what it prints; grep's 1 means that it found nothing."""
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=False)


def make_figure(size: int, lines: int, seconds: dict[str, float], added: float) -> Figure:
    """The table, and whether the bounds are kept."""
    searches = ("search plain words", "search an expression", "first error", "grep -i")
    rows = [
        (name, f"{1000 * value:.1f}", f"{size / value / 1e6:.0f}" if name in searches else "")
        for name, value in seconds.items()
    ]
    fast, small = seconds["from the key to the screen"] < BOUND_SECONDS, added < BOUND_MEGABYTES
    return Figure(
        title=f"a log of {size / 1e9:.2f} GB, {lines:,} lines",
        columns=("", ">milliseconds", ">MB/s"),
        rows=tuple(rows),
        sentences=(
            f"{'Under' if fast else 'NOT under'} {BOUND_SECONDS} s from the key to the last lines on the screen.",
            f"{'Under' if small else 'NOT under'} {BOUND_MEGABYTES:.0f} MB: {added:.1f} MB of memory added, "
            "after 40 blocks up, a jump to the beginning and 60 blocks down.",
            "The file was in the page cache.",
        ),
        data={"bytes": size, "lines": lines, "median_seconds": seconds, "added_megabytes": added},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    print_figure(measure_log(parser.parse_args().megabytes), console())


if __name__ == "__main__":
    main()
