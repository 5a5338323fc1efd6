"""How soon the first curve of a long run is there, and what it costs to follow it: 100,000 steps of 5 metrics.

From metrics.jsonl and from TensorBoard event files, beside TensorBoard's own reader, tbparse and terminalboard on the
same numbers, and beside textual-plot for the drawing alone. `python -m benchmarks.tui_curves [--steps N]`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import psutil
from textual.app import App, ComposeResult

from benchmarks.figure import Figure, print_figure
from benchmarks.tui_peers import LeftOut, Peer, with_peer
from benchmarks.tui_screen import open_screen
from qad_core.commands.output import console
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsWriter
from qad_tui.chart_drawing import draw_chart
from qad_tui.charts import Chart
from qad_tui.run_follower import CurveFollower, CurvesWanted
from qad_tui.widgets.chart import ChartView

STEPS = 100_000
KEYS = ("loss/kd", "learning_rate", "grad_norm", "step_ms", "tokens_per_s")
FIRST_CURVE_BOUND_SECONDS = 0.5
COLUMNS, ROWS = 160, 48
REDRAWS = 5
_TBPARSE = """
import json, sys, time
began = time.perf_counter()
from tbparse import SummaryReader
import psutil
imported, before = time.perf_counter(), psutil.Process().memory_info().rss
table = SummaryReader(sys.argv[1]).scalars
seconds, after = time.perf_counter() - imported, psutil.Process().memory_info().rss
print(json.dumps({"seconds": seconds, "rows": len(table), "mebibytes": (after - before) / 2**20}))
"""
_TEXTUAL_PLOT = """
import asyncio, json, sys, time
import numpy
from statistics import median
from textual.app import App
from textual_plot import PlotWidget
points, columns, rows = map(int, sys.argv[1:])
x, y, times = numpy.arange(points), numpy.random.default_rng(0).random(points), []
class Shown(App):
    def compose(self):
        yield PlotWidget()
async def main():
    async with Shown().run_test(size=(columns, rows)) as pilot:
        plot = pilot.app.query_one(PlotWidget)
        for number in range(6):
            began = time.process_time()
            plot.clear()
            plot.plot(x, y + number)
            await pilot.pause()
            times.append(time.process_time() - began)
asyncio.run(main())
print(json.dumps({"seconds": median(times[1:])}))
"""


@dataclass
class _Seconds:
    """Wall times of one way to read, over the repeats."""

    first: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])
    one_more: list[float] = field(default_factory=list[float])
    redraw: list[float] = field(default_factory=list[float])
    """CPU seconds to draw the whole curve again."""
    mebibytes: list[float] = field(default_factory=list[float])

    def row(self, name: str) -> tuple[str, ...]:
        cells = [f"{median(each):.3f}" if each else "-" for each in (self.first, self.whole)]
        more = [f"{1000 * median(each):.1f}" if each else "-" for each in (self.one_more, self.redraw)]
        return (name, *cells, *more, f"{max(self.mebibytes):.0f}" if self.mebibytes else "-")


def measure_curves(steps: int = STEPS, repeats: int = 3, *, peers: bool = True) -> Figure:
    """Median seconds to the first and the whole curve, drawn in 160 x 48 cells, and milliseconds of one step more."""
    with tempfile.TemporaryDirectory() as folder:
        ours, foreign = Path(folder) / "ours", Path(folder) / "foreign"
        add_line = _write_metrics(ours, steps)
        add_event = _write_events(foreign, steps)
        from_lines = _measure(ours, add_line, repeats)
        from_events = _measure(foreign, add_event, repeats)
        events = foreign / "tensorboard" / "model"
        rows = {
            "qad-tui, metrics.jsonl": from_lines,
            "qad-tui, event file": from_events,
            "TensorBoard's EventAccumulator, event file": _measure_accumulator(events, repeats),
            **dict(_measure_peers(events, steps, repeats, install=peers)),
        }
    first = max(median(from_lines.first), median(from_events.first))
    return Figure(
        title=f"first curve of {steps * len(KEYS):,} metric events",
        columns=("", ">first curve s", ">whole curve s", ">one step more ms", ">redraw CPU ms", ">added MiB"),
        rows=tuple(each.row(6) if isinstance(each, LeftOut) else each.row(name) for name, each in rows.items()),
        sentences=(
            f"{'Under' if first < FIRST_CURVE_BOUND_SECONDS else 'NOT under'} {FIRST_CURVE_BOUND_SECONDS} s.",
            "A first curve is drawn from samples of metrics.jsonl, or from what has come of an event file by then.",
            "EventAccumulator and tbparse read and draw nothing; textual-plot draws and reads nothing.",
            "terminalboard, with plotext below 6, is timed from the start of its process to the end of its one frame.",
        ),
        data={name: vars(each) for name, each in rows.items()},
    )


def _measure_peers(
    events: Path, steps: int, repeats: int, *, install: bool
) -> Iterator[tuple[str, _Seconds | LeftOut]]:
    asked: Sequence[tuple[str, Callable[[Peer], Iterable[tuple[str, _Seconds]]], str]] = (
        ("tbparse", lambda peer: _read_by_tbparse(peer, events, repeats), "psutil"),
        ("terminalboard", lambda peer: _show_by_terminalboard(peer, events, repeats), "plotext<6"),
        ("textual-plot", lambda peer: _draw_by_textual_plot(peer, steps, repeats), "textual>=8"),
    )
    for package, measure, more in asked:
        found = with_peer(package, measure, more, install=install)
        yield from [(package, found)] if isinstance(found, LeftOut) else found


def _read_by_tbparse(peer: Peer, events: Path, repeats: int) -> list[tuple[str, _Seconds]]:
    answers = [peer.run_script(_TBPARSE, events) for _ in range(repeats)]
    seconds = _Seconds(
        whole=[answer["seconds"] for answer in answers], mebibytes=[answer["mebibytes"] for answer in answers]
    )
    return [(f"{peer.version}, event file", seconds)]


def _show_by_terminalboard(peer: Peer, events: Path, repeats: int) -> list[tuple[str, _Seconds]]:
    argv = [peer.program("terminalboard"), str(events), "--once", "--tags", KEYS[0], "--grid", "1x1"]
    seconds = _Seconds()
    for _ in range(repeats):
        with open_screen(argv, peer.environ) as screen:
            seconds.whole.append(screen.wait_for_end(300))
    return [(f"{peer.version} --once, event file", seconds)]


def _draw_by_textual_plot(peer: Peer, steps: int, repeats: int) -> list[tuple[str, _Seconds]]:
    found: list[tuple[str, _Seconds]] = []
    for points in (steps, 2 * COLUMNS):
        answers = [peer.run_script(_TEXTUAL_PLOT, points, COLUMNS, ROWS) for _ in range(repeats)]
        seconds = _Seconds(redraw=[answer["seconds"] for answer in answers])
        found.append((f"{peer.version}, {points:,} points", seconds))
    return found


def _measure(folder: Path, add_step: Callable[[], None], repeats: int) -> _Seconds:
    seconds = _Seconds()
    charts: list[Chart] = []
    for _ in range(repeats):
        before = psutil.Process().memory_info().rss
        follower, began = CurveFollower(folder), time.perf_counter()
        frames = 0
        for _ in _frames(follower):
            frames += 1
            if frames == 1:
                seconds.first.append(time.perf_counter() - began)
        seconds.whole.append(time.perf_counter() - began)
        seconds.mebibytes.append((psutil.Process().memory_info().rss - before) / 2**20)
        for _ in range(10):
            add_step()
            began = time.perf_counter()
            charts = list(_frames(follower))
            if len(charts) != 1:
                raise AssertionError("one more step did not give one more curve")
            seconds.one_more.append(time.perf_counter() - began)
    seconds.redraw += asyncio.run(_redraw_times(charts[0], repeats))
    return seconds


def _frames(follower: CurveFollower) -> Iterator[Chart]:
    follower.ask(CurvesWanted(COLUMNS, only=KEYS[0]))
    for curves in follower.serve():
        for chart in curves.charts.values():
            draw_chart(chart, COLUMNS, ROWS)
        yield curves.charts[KEYS[0]]


class _ChartApp(App[None]):
    def compose(self) -> ComposeResult:
        yield ChartView()


async def _redraw_times(chart: Chart, repeats: int) -> list[float]:
    """CPU seconds of the widget on a screen, which draws no chart that it has drawn."""
    times: list[float] = []
    async with _ChartApp().run_test(size=(COLUMNS, ROWS)) as pilot:
        view = pilot.app.query_one(ChartView)
        for number in range(1 + REDRAWS * repeats):
            began = time.process_time()
            view.show(replace(chart, title=str(number)))
            await pilot.pause()
            times.append(time.process_time() - began)
    return times[1:]


def _measure_accumulator(events: Path, repeats: int) -> _Seconds:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seconds = _Seconds()
    (path,) = events.iterdir()
    for _ in range(repeats):
        began = time.perf_counter()
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0})
        accumulator.Reload()
        accumulator.Scalars(KEYS[0])
        seconds.whole.append(time.perf_counter() - began)
    return seconds


def _write_metrics(folder: Path, count: int) -> Callable[[], None]:
    folder.mkdir()
    writer, chance = MetricsWriter(RunFolder(folder).metrics), random.Random(0)
    steps = iter(range(1, sys.maxsize))

    def write_step() -> None:
        step = next(steps)
        writer.write({"step": step, "time": 1.7e9 + step, **{key: chance.random() for key in KEYS}})

    for _ in range(count):
        write_step()
    return write_step


def _write_events(folder: Path, count: int) -> Callable[[], None]:
    from torch.utils.tensorboard import SummaryWriter

    writer, chance = SummaryWriter(str(folder / "tensorboard" / "model"), max_queue=10_000), random.Random(0)
    steps = iter(range(1, sys.maxsize))

    def write_step() -> None:
        step = next(steps)
        for key in KEYS:
            writer.add_scalar(key, chance.random(), step, walltime=1.7e9 + step)

    for _ in range(count):
        write_step()
    writer.flush()

    def write_at_once() -> None:
        write_step()
        writer.flush()

    return write_at_once


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true", help="install no other programs")
    arguments = parser.parse_args()
    print_figure(measure_curves(arguments.steps, arguments.repeats, peers=not arguments.no_peers), console())


if __name__ == "__main__":
    main()
