"""How soon the first curve of a long run is there, and what it costs to follow it: 100,000 steps of 5 metrics.

From metrics.jsonl and from TensorBoard event files, beside TensorBoard's own reader, all on the same numbers.
`python -m benchmarks.tui_curves` measures and prints.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from benchmarks.figure import Figure, print_figure
from qad_core.commands.output import console
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsWriter
from qad_tui.chart_drawing import draw_chart
from qad_tui.run_follower import CurveFollower, CurvesWanted

STEPS = 100_000
KEYS = ("loss/kd", "learning_rate", "grad_norm", "step_ms", "tokens_per_s")
FIRST_CURVE_BOUND_SECONDS = 0.5
COLUMNS, ROWS = 160, 48


@dataclass
class _Seconds:
    """Wall times of one way to read, over the repeats."""

    first: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])
    one_more: list[float] = field(default_factory=list[float])
    mebibytes: list[float] = field(default_factory=list[float])

    def row(self, name: str) -> tuple[str, ...]:
        cells = [f"{median(each):.3f}" if each else "-" for each in (self.first, self.whole)]
        more = f"{1000 * median(self.one_more):.1f}" if self.one_more else "-"
        return (name, *cells, more, f"{max(self.mebibytes):.0f}" if self.mebibytes else "-")


def measure_curves(repeats: int = 3) -> Figure:
    """Median seconds to the first and the whole curve, drawn in 160 x 48 cells, and milliseconds of one step more."""
    with tempfile.TemporaryDirectory() as folder:
        ours, foreign = Path(folder) / "ours", Path(folder) / "foreign"
        add_line = _write_metrics(ours)
        add_event = _write_events(foreign)
        from_lines = _measure(ours, add_line, repeats)
        from_events = _measure(foreign, add_event, repeats)
        alternative = _measure_accumulator(foreign, repeats)
    first = max(median(from_lines.first), median(from_events.first))
    return Figure(
        title=f"first curve of {STEPS * len(KEYS):,} metric events",
        columns=("", ">first curve s", ">whole curve s", ">one step more ms", ">added MiB"),
        rows=(
            from_lines.row("qad-tui, metrics.jsonl"),
            from_events.row("qad-tui, event file"),
            alternative.row("TensorBoard's EventAccumulator, event file"),
        ),
        sentences=(
            f"{'Under' if first < FIRST_CURVE_BOUND_SECONDS else 'NOT under'} {FIRST_CURVE_BOUND_SECONDS} s.",
            "A first curve is drawn from samples of metrics.jsonl, or from what has come of an event file by then.",
        ),
        data={
            name: {"first": each.first, "whole": each.whole, "one_more": each.one_more, "mebibytes": each.mebibytes}
            for name, each in (("metrics", from_lines), ("events", from_events), ("accumulator", alternative))
        },
    )


def _measure(folder: Path, add_step: Callable[[], None], repeats: int) -> _Seconds:
    seconds = _Seconds()
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
            if sum(1 for _ in _frames(follower)) != 1:
                raise AssertionError("one more step did not give one more curve")
            seconds.one_more.append(time.perf_counter() - began)
    return seconds


def _frames(follower: CurveFollower) -> Iterator[None]:
    follower.ask(CurvesWanted(COLUMNS, only=KEYS[0]))
    for curves in follower.serve():
        for chart in curves.charts.values():
            draw_chart(chart, COLUMNS, ROWS)
        yield None


def _measure_accumulator(folder: Path, repeats: int) -> _Seconds:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seconds = _Seconds()
    (path,) = (folder / "tensorboard" / "model").iterdir()
    for _ in range(repeats):
        began = time.perf_counter()
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0})
        accumulator.Reload()
        accumulator.Scalars(KEYS[0])
        seconds.whole.append(time.perf_counter() - began)
    return seconds


def _write_metrics(folder: Path) -> Callable[[], None]:
    folder.mkdir()
    writer, chance = MetricsWriter(RunFolder(folder).metrics), random.Random(0)
    steps = iter(range(1, sys.maxsize))

    def write_step() -> None:
        step = next(steps)
        writer.write({"step": step, "time": 1.7e9 + step, **{key: chance.random() for key in KEYS}})

    for _ in range(STEPS):
        write_step()
    return write_step


def _write_events(folder: Path) -> Callable[[], None]:
    from torch.utils.tensorboard import SummaryWriter

    writer, chance = SummaryWriter(str(folder / "tensorboard" / "model"), max_queue=10_000), random.Random(0)
    steps = iter(range(1, sys.maxsize))

    def write_step() -> None:
        step = next(steps)
        for key in KEYS:
            writer.add_scalar(key, chance.random(), step, walltime=1.7e9 + step)

    for _ in range(STEPS):
        write_step()
    writer.flush()

    def write_at_once() -> None:
        write_step()
        writer.flush()

    return write_at_once


if __name__ == "__main__":
    print_figure(measure_curves(), console())
