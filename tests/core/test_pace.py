"""The pace of a run: what an iteration takes with all that happens between two, and what a start takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job
from qad_core.run.metrics import MetricsWriter
from qad_core.run.pace import measure_pace


def make_run(folder: Path, starts: dict[float, list[tuple[int, float]]]) -> RunFolder:
    """A run with a start at each time, and its (step, time) lines."""
    run = RunFolder(folder)
    writer = MetricsWriter(run.metrics)
    for number, (began, steps) in enumerate(starts.items()):
        append_job(run.jobs, Job(id=f"slurm-{number}", kind="slurm", started=began))
        for step, when in steps:
            writer.write({"step": step, "time": when, "loss/kd": 0.5, "step_ms": 1000.0})
    writer.close()
    return run


def test_evaluations_and_saves_count_into_an_iteration(tmp_path: Path) -> None:
    run = make_run(tmp_path, {100.0: [(1, 130.0), (2, 131.0), (3, 138.0), (4, 139.0)]})
    pace = measure_pace(run)
    assert pace is not None and pace.seconds_per_iteration == pytest.approx(3.0) and pace.start_seconds == 30.0


def test_the_time_between_two_links_counts_into_none(tmp_path: Path) -> None:
    run = make_run(tmp_path, {100.0: [(1, 120.0), (2, 122.0), (3, 124.0)], 9000.0: [(4, 9040.0)]})
    pace = measure_pace(run)
    assert pace is not None and pace.seconds_per_iteration == pytest.approx(2.0) and pace.start_seconds == 30.0


def test_a_run_of_which_no_start_was_written_down_has_a_pace(tmp_path: Path) -> None:
    make_run(tmp_path, {100.0: [(1, 120.0), (2, 122.0)]}).jobs.unlink()
    pace = measure_pace(RunFolder(tmp_path))
    assert pace is not None and (pace.seconds_per_iteration, pace.start_seconds) == (2.0, None)


def test_a_run_without_two_steps_has_no_pace(tmp_path: Path) -> None:
    assert measure_pace(RunFolder(tmp_path)) is None
    assert measure_pace(make_run(tmp_path, {100.0: [(1, 130.0)]})) is None
