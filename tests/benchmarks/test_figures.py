"""What the figures compute around their measurements, and one real split of a step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.demo_cost import run_and_watch
from benchmarks.figure import Figure
from benchmarks.import_time import heavy_packages, import_times
from benchmarks.phase_timer import PhaseTimer
from benchmarks.qad_against_qat import QUANTITIES, finish_run, place_overrides, verdict
from qad_core.errors import RunError

KL, _, AGREEMENT = QUANTITIES
SHORT = ("train.train_samples=8", "train.sequence_length=32", "evaluation.sequences=2", "model=tiny")


def test_a_moment_belongs_to_the_innermost_phase_alone() -> None:
    moments = iter([0.0, 1.0, 3.0, 10.0])  # outer starts, inner starts, inner stops, outer stops
    timer = PhaseTimer(wait=lambda: None, clock=lambda: next(moments))
    inner = timer.wrap("inner", lambda: "answer")
    assert timer.wrap("outer", inner)() == "answer"
    times = timer.take()
    assert times.seconds == {"outer": 8.0, "inner": 2.0}
    assert times.calls == {"outer": 1, "inner": 1}
    assert timer.take().seconds == {}


def test_a_heavy_import_would_be_seen() -> None:
    times = import_times("numpy")
    assert times["numpy"] >= times["numpy._core"] > 0
    assert heavy_packages(times) == ["numpy"]


def test_a_lower_kl_is_clearly_better_where_the_spreads_are_apart() -> None:
    said = verdict(KL, qad=[1.0, 2.0], qat=[3.0, 5.0])
    assert "QAD is clearly better, lower by 62.5 %" in said
    assert "2 of 2 orders; the spreads do not overlap" in said


def test_a_higher_agreement_is_better_though_not_clearly_where_the_spreads_overlap() -> None:
    said = verdict(AGREEMENT, qad=[0.5, 0.9], qat=[0.6, 1.0])
    assert "QAT is better, higher by 14.3 %" in said
    assert "2 of 2 orders; the spreads overlap" in said


def test_memory_of_a_child_process_counts() -> None:
    hold = "import time; held = b'x' * (200 << 20); time.sleep(1)"
    seconds, peak = run_and_watch(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"]
    )
    assert seconds > 1
    assert 200 << 20 < peak < 300 << 20


def test_a_command_that_fails_gives_no_figure() -> None:
    with pytest.raises(RunError, match="exit code 3"):
        run_and_watch([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_run_that_is_done_is_read_not_trained_again(tmp_path: Path) -> None:
    overrides = [*SHORT, *place_overrides(tmp_path)]
    first = finish_run("tiny", overrides)
    assert (first.state, first.step, len(first.evaluations)) == ("done", 1, 2)
    assert not (first.path / "checkpoints").exists()
    assert finish_run("tiny", overrides) == first


def test_the_parts_of_a_real_step_are_all_found_and_make_up_the_whole(tmp_path: Path) -> None:
    answer = tmp_path / "split.json"
    argv = [
        sys.executable,
        "-m",
        "benchmarks.step_split",
        "--experiment",
        "tiny",
        "--steps",
        "1",
        "--json",
        str(answer),
    ]
    subprocess.run([*argv, "--root", str(tmp_path)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    data = Figure.model_validate_json(answer.read_bytes()).data
    seconds, calls = data["phase_seconds"], data["phase_calls"]
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) == pytest.approx(data["step_seconds_with_timers"])
    micro_batches, layers, linears_a_layer = calls["teacher forward"], 4, 4
    assert calls["fake quant of activations"] == micro_batches * layers * linears_a_layer
