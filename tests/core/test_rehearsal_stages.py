"""What is told of a rehearsal: each stage once and with its time, and whether the resumed start went on."""

from __future__ import annotations

from pathlib import Path

import pytest

from qad_core.launch.rehearsal import (
    Mark,
    Stage,
    StageWatch,
    finished_stages,
    losses,
    rehearsal_environment,
    went_on,
)
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, MetricsWriter
from qad_core.run.status import Phase, Status, write_status

FIRST = (
    ("begun", 0), ("forked", 10), ("data", 12), ("teacher", 12), ("student", 13), ("calibrating", 14),
    ("evaluating", 17), ("training", 18), ("saving", 25), ("stopped", 26),
)  # fmt: skip
SECOND = (("forked", 27), ("data", 28), ("loading", 29), ("training", 36), ("evaluating", 36), ("saving", 38))
STEPS = tuple(
    {"step": step, "time": time, "consumed_samples": 8 * step, "loss/kd": 0.5, "step_ms": 3000.0}
    for step, time in ((1, 21), (2, 24), (3, 35))
)


def marks(*pairs: tuple[str, float]) -> list[Mark]:
    return [Mark(*pair) for pair in pairs]


def seconds(found: list[Stage]) -> dict[str, float]:
    return {stage.name: stage.seconds for stage in found}


def test_stages_come_in_order_with_the_seconds_between_their_marks() -> None:
    found = seconds(finished_stages(marks(*FIRST, *SECOND, ("done", 39)), list(STEPS)))
    assert found == {
        "imports and tokens": 10, "ranks meet": 2, "build": 2, "calibrate": 3, "evaluate": 1, "step 1": 3, "step 2": 3,
        "save": 1, "resume": 5, "step 3": 3, "evaluate and save again": 4,
    }  # fmt: skip
    assert list(found)[-4:] == ["save", "resume", "step 3", "evaluate and save again"]


def test_what_is_not_over_is_not_told() -> None:
    assert finished_stages(marks(*FIRST[:1]), []) == []
    assert list(seconds(finished_stages(marks(*FIRST[:6]), []))) == ["imports and tokens", "ranks meet", "build"]


def test_a_phase_too_short_to_be_seen_leaves_its_time_to_the_one_before() -> None:
    found = seconds(finished_stages(marks(*FIRST[:2], *FIRST[6:]), []))
    assert (found["ranks meet"], found["build"], found["calibrate"]) == (7, 0, 0)


def test_a_watch_tells_each_stage_once_and_takes_no_word_of_the_launcher(tmp_path: Path) -> None:
    told: list[Stage] = []
    run = make_run(tmp_path, "data", pid=1)
    watch = StageWatch(run, told.append, launcher=1)
    watch.look()
    assert told == []
    (run.logs / "output_2026_rank0.out").touch()
    watch.look()
    say(run, "data", pid=2)
    watch.look()
    say(run, "evaluating", pid=2)
    watch.look()
    watch.look()
    assert [stage.name for stage in told] == ["imports and tokens", "ranks meet", "build", "calibrate"]


@pytest.mark.parametrize(
    ("phase", "lines", "said"),
    [
        ("done", STEPS, ""),
        ("failed", STEPS, "the run says failed"),
        ("done", STEPS[:2], "have the steps and samples"),
        ("done", (*STEPS[:2], {**STEPS[2], "consumed_samples": 8}), "have the steps and samples"),
        ("done", (*STEPS[:2], {**STEPS[2], "loss/kd": float("nan")}), "losses are"),
        ("done", (*STEPS[:2], {**STEPS[2], "loss/kd": None}), "losses are"),
    ],
)
def test_a_resumed_start_has_gone_on_when_every_step_is_there_once_with_a_finite_loss(
    tmp_path: Path, phase: Phase, lines: tuple[MetricsLine, ...], said: str
) -> None:
    run = make_run(tmp_path, phase, pid=2)
    writer = MetricsWriter(run.metrics)
    for line in lines:
        writer.write(line)
    writer.close()
    assert said in went_on(run, 8)
    assert bool(went_on(run, 8)) == bool(said)


def test_the_loss_of_a_run_on_the_data_alone_counts_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, "done", pid=2)
    writer = MetricsWriter(run.metrics)
    writer.write({"step": 1, "loss/kd": None, "loss/ce": 2.5})
    writer.close()
    assert losses(run) == [2.5]


def test_ranks_share_no_threads_see_no_gpu_and_keep_to_loopback() -> None:
    environment = rehearsal_environment({"PATH": "/bin", "GLOO_SOCKET_IFNAME": "ibp26s0", "OMP_NUM_THREADS": "8"})
    assert environment["PATH"] == "/bin"
    assert (environment["OMP_NUM_THREADS"], environment["CUDA_VISIBLE_DEVICES"]) == ("1", "")
    assert environment["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")


def make_run(path: Path, phase: Phase, *, pid: int) -> RunFolder:
    run = RunFolder(path)
    run.logs.mkdir()
    say(run, phase, pid=pid)
    return run


def say(run: RunFolder, phase: Phase, *, pid: int) -> None:
    write_status(run.status, Status(phase=phase, pid=pid, checkpoint_step=3, updated=50))
