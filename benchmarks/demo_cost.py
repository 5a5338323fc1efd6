"""What `qad_core demo` costs from nothing to its table: seconds, memory of all its processes, KL won back. Linux only.

The demo is run once and its figure kept beside its folder; later calls with the same overrides read it. Installing
packages is not part of it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.figure import Figure
from qad_core.errors import RunError
from qad_core.run.metrics import read_metrics
from qad_core.run.show import show_duration, show_fraction, show_number, show_won_back
from qad_core.run.store import RunSummary, find_runs

POLL_SECONDS = 0.1
BOUND_SECONDS, BOUND_GIB, BOUND_WON_BACK = 600.0, 6.0, 0.2


def measure_demo(root: Path, overrides: Sequence[str], *, fresh: bool) -> Figure:
    """Run the demo below `root`, or read what its last run cost; raises RunError when it does not end well."""
    record, folder = root / "demo.json", root / "demo"
    if record.is_file() and not fresh:
        kept = Figure.model_validate_json(record.read_text(encoding="utf-8"))
        if kept.data["overrides"] == list(overrides):
            return kept
    if folder.exists():
        shutil.rmtree(folder)  # its tokens too: making them is part of the demo
    argv = [sys.executable, "-m", "qad_core.cli", "demo", "--root", str(folder), *overrides]
    seconds, memory = run_and_watch(argv)
    figure = describe_demo(find_runs([folder])[0], seconds, memory / 2**30, overrides)
    record.write_text(figure.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return figure


def run_and_watch(argv: Sequence[str]) -> tuple[float, int]:
    """Run a command, its output on stderr; (wall seconds, peak bytes of it and all its descendants together).

    Raises RunError when it ends with another code than 0.
    """
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(argv, stdout=sys.stderr) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = raise_peak(peak, watched)
            time.sleep(POLL_SECONDS)
    if process.returncode != 0:
        raise RunError(f"`{' '.join(argv)}` ended with exit code {process.returncode}", "Its output above says why.")
    return time.perf_counter() - started, peak


def raise_peak(peak: int, process: psutil.Process) -> int:
    """The larger of `peak` and the bytes that the process and its descendants hold now.

    Counted is the proportional set size, in which a page of several processes counts once. It is slow to
    read and never above the resident size, which says when a look is worth it.
    """
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.Error:  # it has just ended
        return peak
    if sum(resident_bytes(one) for one in tree) <= peak:
        return peak
    return max(peak, sum(proportional_bytes(one) for one in tree))


def resident_bytes(process: psutil.Process) -> int:
    """Resident set size; 0 for a process that has ended meanwhile."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def proportional_bytes(process: psutil.Process) -> int:
    """Proportional set size; 0 for a process that has ended meanwhile."""
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def describe_demo(run: RunSummary, seconds: float, memory_gib: float, overrides: Sequence[str]) -> Figure:
    """The cost beside its bounds."""
    trainer_gib = max((line.get("memory_gib") or 0.0 for line in read_metrics(run.folder.metrics)), default=0.0)
    return Figure(
        title=f"qad_core demo: {run.step} steps, installing not included",
        columns=("", ">measured", ">bound", ""),
        rows=demo_rows(run, seconds, memory_gib, trainer_gib),
        sentences=(
            "The trainer's own peak is of GPU memory where it runs on one.",
            *((f"Overrides: {' '.join(overrides)}",) if overrides else ()),
        ),
        data={
            "seconds": seconds,
            "peak_memory_gib": memory_gib,
            "trainer_memory_gib": trainer_gib,
            "first_kl": run.first_kl,
            "last_kl": run.last_kl,
            "won_back": run.recovered,
            "steps": run.step,
            "overrides": list(overrides),
        },
    )


def demo_rows(
    run: RunSummary, seconds: float, memory_gib: float, trainer_gib: float
) -> tuple[tuple[str, str, str, str], ...]:
    """What was measured, its bound, and whether it is kept."""
    time_bound, memory_bound = f"< {show_duration(BOUND_SECONDS)}", f"< {BOUND_GIB:.0f} GiB"
    won_back, won_back_bound = run.recovered or 0.0, f">= {show_fraction(BOUND_WON_BACK)}"
    return (
        ("wall time", show_duration(seconds), time_bound, yes_or_no(seconds < BOUND_SECONDS)),
        ("peak memory, all processes", f"{memory_gib:.2f} GiB", memory_bound, yes_or_no(memory_gib < BOUND_GIB)),
        ("peak memory, as the trainer says", f"{trainer_gib:.2f} GiB", "", ""),
        ("KL to the teacher, plain quantization", show_number(run.first_kl), "", ""),
        ("KL to the teacher, after QAD", show_number(run.last_kl), "", ""),
        ("KL gap won back", show_won_back(won_back), won_back_bound, yes_or_no(won_back >= BOUND_WON_BACK)),
    )


def yes_or_no(is_kept: bool) -> str:
    """Whether a bound is kept."""
    return "yes" if is_kept else "NO"
