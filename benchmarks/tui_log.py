"""What it costs to look into a log of one gigabyte: `python -m benchmarks.tui_log [--megabytes N]`.

The log view's parts are timed alone, and on a terminal the time from the key press to the lines. Beside it stand
`tail` and `grep` for the same work, toolong on a terminal, and Textual's Log and RichLog, which are given lines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import psutil
from textual.app import App, ComposeResult
from textual.widgets import Log, RichLog

from benchmarks.figure import Figure, print_figure
from benchmarks.tui_peers import LeftOut, Peer, PeerError, read_json, with_peer
from benchmarks.tui_screen import Screen, open_screen
from qad_core.commands.output import console
from qad_core.run.log_search import LogPattern, Matcher, search_log
from qad_core.run.log_signs import ErrorLines
from qad_tui.log_tail import LogTail

REPEATS = 7
BOUND_SECONDS, BOUND_MEGABYTES = 0.1, 30.0
LAST_WORDS = "CUDA out of memory"
WIDGETS: dict[str, type[Log | RichLog]] = {"Log": Log, "RichLog": RichLog}
WIDGET_LINES = 20_000
LOG_NAME = "student_qad_2026-01-01_12-00-00"


def measure_log(megabytes: int = 1000, widget_lines: int = WIDGET_LINES, *, peers: bool = True) -> Figure:
    """Medians over a made log of so many megabytes, which is deleted again."""
    with tempfile.TemporaryDirectory(prefix="qad-tui-log-") as folder:
        run = Path(folder) / "runs" / "long"
        (run / "logs").mkdir(parents=True)
        (run / "config.yaml").write_text("loss: qad\n", encoding="utf-8")
        (run / "logs" / f"{LOG_NAME}.log").write_text("a short log\n", encoding="utf-8")
        path = run / "logs" / f"{LOG_NAME}_rank1.log"
        lines = write_log(path, megabytes * 1_000_000)
        tail, added = walk(path)
        shown = list(islice(seconds_to_lines(run), REPEATS))
        seconds = {
            "open": time_often(lambda: LogTail(path).poll()),
            "from the key to the screen": shown,
            "jump to the beginning": time_often(lambda: tail.go_to(0)),
            "jump to the middle": time_often(lambda: tail.go_to(path.stat().st_size // 2)),
            "search plain words": time_search(path, LogPattern("nowhere at all")),
            "search an expression": time_search(path, LogPattern(r"grad norm [5-9]\.\d+")),
            "first error": time_search(path, ErrorLines()),
            "tail -n 2000": time_often(lambda: call("tail", "-n", "2000", str(path))),
            "grep -i": time_often(lambda: call("grep", "-i", "nowhere at all", str(path)), repeats=3),
        }
        others = [measure_widget(name, path, widget_lines) for name in WIDGETS]
        toolong = with_peer("toolong", lambda peer: measure_toolong(peer, path), install=peers)
        others += [toolong] if isinstance(toolong, LeftOut) else toolong
        return make_figure(path.stat().st_size, lines, seconds, added, others)


@dataclass(frozen=True)
class Shown:
    """What another program costs to show the end of the log."""

    name: str
    seconds: list[float]
    added_megabytes: float

    def row(self) -> tuple[str, ...]:
        """Its row of the table."""
        return (self.name, f"{1000 * median(self.seconds):.1f}", "", f"{self.added_megabytes:.1f}")


def measure_widget(name: str, path: Path, lines: int) -> Shown | LeftOut:
    """A widget of Textual that is given the last lines of the log, in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.tui_log", "--widget", name, "--lines", str(lines), str(path)]
    try:
        answers = [read_json(argv, os.environ) for _ in range(3)]
    except PeerError as error:
        return LeftOut(f"Textual's {name}", str(error))
    return Shown(
        f"Textual's {name}, the last {lines:,} lines alone",
        [answer["seconds"] for answer in answers],
        max(answer["megabytes"] for answer in answers),
    )


async def fill_widget(name: str, path: Path, lines: int) -> dict[str, float]:
    """Seconds from the file to the last lines on the screen, and the megabytes that the widget has added."""
    app = _WidgetApp(name)
    async with app.run_test(size=(120, 40)) as pilot:
        process = psutil.Process()
        before, began = process.memory_info().rss, time.perf_counter()
        text = subprocess.run(["tail", "-n", str(lines), str(path)], capture_output=True, check=True).stdout.decode()
        widget = app.query_one(WIDGETS[name])
        if isinstance(widget, Log):
            widget.write_lines(text.splitlines())
        else:
            for line in text.splitlines():
                widget.write(line)
        while LAST_WORDS not in "".join(widget.render_line(y).text for y in range(widget.size.height)):
            await pilot.pause()
        return {"seconds": time.perf_counter() - began, "megabytes": (process.memory_info().rss - before) / 1e6}


class _WidgetApp(App[None]):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def compose(self) -> ComposeResult:
        yield WIDGETS[self._name]()


def measure_toolong(peer: Peer, path: Path) -> list[Shown]:
    """toolong on a terminal, from its start to any line and to the last; its memory over that with a short log."""
    short = peer.folder / "short.log"
    short.write_text("a short log\n", encoding="utf-8")
    with open_screen([peer.program("tl"), str(short)], peer.environ) as screen:
        screen.wait_for(b"a short log", 60)
        least = at_rest(screen)
    first: list[float] = []
    last: list[float] = []
    most = 0.0
    for _ in range(3):
        with open_screen([peer.program("tl"), str(path)], peer.environ) as screen:
            first.append(screen.wait_for(b"INFO iteration", 60))
            last.append(screen.wait_for(LAST_WORDS.encode(), 60))
            most = max(most, at_rest(screen))
    added = (most - least) * 2**20 / 1e6
    return [
        Shown(f"{peer.version}, from its start to its first lines, somewhere in the log", first, added),
        Shown(f"{peer.version}, from its start to the last lines", last, added),
    ]


def at_rest(screen: Screen) -> float:
    """Resident MiB of a program that has stopped working."""
    for _ in range(120):
        if screen.cpu_share(0.5) < 0.1:
            return screen.mebibytes()
    raise TimeoutError("it was still at work after a minute")


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
        file.write(f"RuntimeError: {LAST_WORDS}\n".encode())
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


def seconds_to_lines(run: Path) -> Iterator[float]:
    """From the key that goes to the next log to its last line on a terminal, again and again."""
    environ = {**os.environ, "QAD_TUI_HOME": str(run.parent / "home")}
    with open_screen([sys.executable, "-m", "qad_tui", str(run.parent)], environ) as screen:
        screen.wait_for(run.name.encode(), 30)
        screen.drain(1)
        os.write(screen.terminal, b"l")
        while True:
            screen.wait_until(lambda seen: b"a short log" in seen, 10)
            screen.drain(0.5)
            yield screen.answer(b"]", lambda seen: LAST_WORDS.encode() in seen)
            screen.drain(0.5)
            os.write(screen.terminal, b"[")


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


def make_figure(
    size: int, lines: int, seconds: dict[str, list[float]], added: float, peers: Sequence[Shown | LeftOut]
) -> Figure:
    """The table, and whether the bounds are kept."""
    searches = ("search plain words", "search an expression", "first error", "grep -i")
    medians = {name: median(values) for name, values in seconds.items()}
    rows = [
        (name, f"{1000 * value:.1f}", f"{size / value / 1e6:.0f}" if name in searches else "", "")
        for name, value in medians.items()
    ]
    rows[0] = (*rows[0][:3], f"{added:.1f}")
    fast, small = medians["from the key to the screen"] < BOUND_SECONDS, added < BOUND_MEGABYTES
    return Figure(
        title=f"a log of {size / 1e9:.2f} GB, {lines:,} lines",
        columns=("", ">milliseconds", ">MB/s", ">added MB"),
        rows=(*rows, *(each.row(4) if isinstance(each, LeftOut) else each.row() for each in peers)),
        sentences=(
            f"{'Under' if fast else 'NOT under'} {BOUND_SECONDS} s from the key to the last lines on the screen.",
            f"{'Under' if small else 'NOT under'} {BOUND_MEGABYTES:.0f} MB: {added:.1f} MB of memory added, "
            "after 40 blocks up, a jump to the beginning and 60 blocks down.",
            "toolong's time has the start of its process in it, its memory the index of all lines, once that is made.",
            "The file was in the page cache.",
        ),
        data={
            "bytes": size,
            "lines": lines,
            "seconds": seconds,
            "added_megabytes": added,
            "peers": [asdict(each) for each in peers],
        },
    )


def main() -> None:
    """Measure and print; with `--widget`, fill one widget and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--widget", choices=list(WIDGETS), help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=int, default=WIDGET_LINES, help="lines that the widgets of Textual are given")
    parser.add_argument("log", type=Path, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--no-peers", action="store_true", help="install no other programs")
    arguments = parser.parse_args()
    if arguments.widget:
        print(json.dumps(asyncio.run(fill_widget(arguments.widget, arguments.log, arguments.lines))))
        return
    print_figure(measure_log(arguments.megabytes, arguments.lines, peers=not arguments.no_peers), console())


if __name__ == "__main__":
    main()
