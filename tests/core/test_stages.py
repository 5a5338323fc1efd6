"""The stage of a run on its way to steady training."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.run.metrics import MetricsLine
from qad_core.run.status import Phase, Status
from qad_core.run.store import RunSummary
from qad_core.slurm.outlook import Outlook, OutlookState
from qad_core.slurm.stages import LOCAL_STAGES, STAGES, find_stage


def run_at(phase: Phase | None, *, last_step_time: float | None = None) -> RunSummary:
    status = None if phase is None else Status(phase=phase, started=1000.0, updated=1100.0)
    line: MetricsLine | None = None if last_step_time is None else {"step": 5, "time": last_step_time}
    return RunSummary(Path("run"), "running", status, True, line, (), (), 0, 1100.0)


@pytest.mark.parametrize(
    ("state", "phase", "last_step_time", "stage"),
    [
        ("queued", None, None, "queued"),
        ("blocked", "stopped", 900.0, "queued"),
        ("starting", "stopped", 900.0, "container"),
        ("running", "starting", None, "starting"),
        ("running", "data", None, "data"),
        ("running", "teacher", 900.0, "teacher"),
        ("running", "calibrating", None, "student"),
        ("running", "loading", 900.0, "student"),
        ("running", "evaluating", None, "first step"),
        ("running", "training", 900.0, "first step"),
        ("running", "training", 1050.0, "steady"),
        ("silent", "saving", 1050.0, "steady"),
        ("done", "done", 1050.0, None),
        ("unknown", "training", 1050.0, None),
        ("never started", None, None, None),
    ],
)
def test_the_stage_follows_from_outlook_phase_and_steps(
    state: OutlookState, phase: Phase | None, last_step_time: float | None, stage: str | None
) -> None:
    assert find_stage(run_at(phase, last_step_time=last_step_time), Outlook(state, "")) == stage


def test_a_local_run_has_no_queue_and_no_container() -> None:
    assert STAGES[:2] == ("queued", "container") and LOCAL_STAGES == STAGES[2:]
