"""The store: which folders are runs, what state they are in, and the numbers that follow from their files."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qad_core.errors import RunError
from qad_core.run.folder import RunFolder
from qad_core.run.jobs import Job, append_job, local_job, read_jobs
from qad_core.run.log_files import log_files
from qad_core.run.metrics import MetricsLine, encode_line
from qad_core.run.plot import plot_series
from qad_core.run.progress import eta_seconds, recovered_fraction
from qad_core.run.run_paths import resolve_run
from qad_core.run.state import writer_lives
from qad_core.run.status import Phase, Status, write_status
from qad_core.run.store import RunStore, find_runs, summarize_run


def make_run(
    root: Path, name: str, phase: Phase = "training", *, pid: int = 0, host: str = "", step: int = 4, age: float = 0
) -> RunFolder:
    folder = RunFolder(root / name)
    folder.logs.mkdir(parents=True)
    folder.config.write_text("loss: qad\n")
    status = Status(
        phase=phase, step=step, train_iterations=40, pid=pid or os.getpid(), host=host or socket.gethostname(),
        updated=time.time() - age,
    )  # fmt: skip
    write_status(folder.status, status)
    return folder


def add_lines(folder: RunFolder, *lines: MetricsLine) -> None:
    with folder.metrics.open("a", encoding="utf-8") as file:
        file.writelines(encode_line(line) + "\n" for line in lines)


def gone_process() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("phase", ["done", "stopped", "failed"])
def test_a_run_that_wrote_its_end_is_in_that_state(tmp_path: Path, phase: Phase) -> None:
    make_run(tmp_path, "run", phase, pid=gone_process())
    assert summarize_run(tmp_path / "run").state == phase


def test_a_run_whose_process_lives_is_running(tmp_path: Path) -> None:
    make_run(tmp_path, "run")
    run = summarize_run(tmp_path / "run")
    assert (run.state, run.alive, run.words) == ("running", True, "training")


def test_a_run_whose_process_is_gone_without_an_end_was_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    make_run(tmp_path, "run", pid=process.pid)
    assert summarize_run(tmp_path / "run").state == "running"
    process.kill()
    process.wait()
    run = summarize_run(tmp_path / "run")
    assert (run.state, run.words) == ("killed", "killed while training at step 4 of 40, can be resumed")


def test_a_killed_process_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()
    deadline = time.monotonic() + 10
    make_run(tmp_path, "run", pid=process.pid)
    while summarize_run(tmp_path / "run").state != "killed" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.returncode is None, "the process must be a zombie for this test"
    assert summarize_run(tmp_path / "run").state == "killed"
    process.wait()


def test_a_later_process_with_the_same_number_is_not_the_writer() -> None:
    status = Status(phase="training", pid=os.getpid(), host=socket.gethostname(), updated=1_000_000_000)
    assert not writer_lives(status)


def test_a_run_on_another_machine_lives_while_it_writes() -> None:
    status = Status(phase="training", pid=1, host="elsewhere", updated=1000)
    assert writer_lives(status, now=1100)
    assert not writer_lives(status, now=2000)


def test_a_folder_with_a_config_alone_never_started(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("")
    assert summarize_run(tmp_path / "run").state == "never started"


def test_folders_of_older_scripts_are_listed_as_foreign_and_others_not_at_all(tmp_path: Path) -> None:
    for name in ("old/checkpoints", "old/tensorboard", "data_cache/tokens"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    assert [(run.name, run.state) for run in find_runs([tmp_path])] == [("old", "foreign")]


def test_runs_come_latest_first_each_once_and_absent_roots_have_none(tmp_path: Path) -> None:
    for name, age in (("older", 100), ("newer", 10)):
        folder = make_run(tmp_path, name)
        changed = time.time() - age
        os.utime(folder.status, (changed, changed))
    found = find_runs([tmp_path, tmp_path / "older", tmp_path / "absent"])
    assert [run.name for run in found] == ["newer", "older"]


def test_a_summary_has_the_newest_numbers(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "run", step=2)
    add_lines(
        folder,
        {"step": 0, "eval/kl": 0.5},
        {"step": 1, "loss/kd": 0.4, "step_ms": 9000.0, "tokens_per_s": 10.0},
        {"step": 2, "loss/kd": math.nan, "step_ms": 1000.0, "tokens_per_s": 20.0},
        {"step": 2, "eval/kl": 0.2},
    )
    run = summarize_run(folder.path)
    assert (run.step, run.train_iterations, run.tokens_per_s, run.first_kl, run.last_kl) == (2, 40, 20.0, 0.5, 0.2)
    assert run.loss is not None and math.isnan(run.loss)
    assert run.recovered == pytest.approx(0.6)
    assert run.eta_seconds == pytest.approx(38 * 5.0)


def test_a_kept_store_reads_on_and_forgets_what_a_resume_cut(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "run")
    add_lines(folder, {"step": 0, "eval/kl": 0.5}, {"step": 9, "eval/kl": 0.1}, {"step": 9, "loss/kd": 0.1})
    store = RunStore([tmp_path])
    assert store.refresh()[0].last_kl == 0.1
    folder.metrics.write_text(encode_line({"step": 0, "eval/kl": 0.5}) + "\n")
    (cut,) = store.refresh()
    assert (cut.last_kl, cut.last_training) == (0.5, None)
    add_lines(folder, {"step": 1, "loss/kd": 0.3})
    assert store.refresh()[0].loss == 0.3


def test_a_run_is_found_by_path_or_name_and_a_wrong_name_gets_the_nearest(tmp_path: Path) -> None:
    make_run(tmp_path, "tiny-lr1e-3")
    assert resolve_run("tiny-lr1e-3", [tmp_path]) == tmp_path / "tiny-lr1e-3"
    assert resolve_run(str(tmp_path / "tiny-lr1e-3"), []) == tmp_path / "tiny-lr1e-3"
    with pytest.raises(RunError) as caught:
        resolve_run("tiny-lr1e-4", [tmp_path])
    assert caught.value.hint == "Nearest: tiny-lr1e-3."


def test_logs_are_listed_by_rank_without_the_environments(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "run")
    for name in ("m_qad_1.log", "m_qad_1_rank3.log", "m_1.env.log", "output_1_rank0.out"):
        (folder.logs / name).write_text("")
    assert {path.name for path in log_files(folder)} == {"m_qad_1.log", "m_qad_1_rank3.log"}
    assert [path.name for path in log_files(folder, rank=3)] == ["m_qad_1_rank3.log"]
    assert [path.name for path in log_files(folder, rank=0)] == ["m_qad_1.log"]


@pytest.mark.parametrize(
    ("kls", "fraction"),
    [([], None), ([0.5], None), ([0.5, 0.1], 0.8), ([0.5, 0.6], -0.2), ([0.0, 0.0], None), ([0.5, math.nan], None)],
)
def test_the_recovered_fraction_compares_the_last_kl_with_plain_quantization(
    kls: list[float], fraction: float | None
) -> None:
    found = recovered_fraction([{"step": step, "eval/kl": kl} for step, kl in enumerate(kls)])
    assert found == (None if fraction is None else pytest.approx(fraction))


def test_without_an_evaluation_at_step_0_nothing_can_be_recovered() -> None:
    assert recovered_fraction([{"step": 5, "eval/kl": 0.5}, {"step": 9, "eval/kl": 0.1}]) is None


def test_the_time_left_is_the_median_steps() -> None:
    assert eta_seconds(10, 20, [100.0, 100.0, 90_000.0]) == pytest.approx(1.0)
    assert eta_seconds(10, 20, [math.nan]) is None
    assert eta_seconds(0, 10**20, [1e300]) is None
    assert eta_seconds(25, 20, [100.0]) == 0


def test_a_start_and_its_end_are_one_job(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    job = local_job(("python",), pid=1, started=5.0)
    append_job(path, job)
    append_job(path, Job(**{**job.model_dump(), "ended": 6.0, "exit_code": 3}))
    path.open("a").write('{"half')
    (found,) = read_jobs(path)
    assert (found.started, found.ended, found.exit_code) == (5.0, 6.0, 3)


def test_a_curve_goes_from_the_upper_left_to_the_lower_right() -> None:
    drawn = plot_series([0, 1, 2, 3], [3.0, 2.0, 1.0, 0.0], width=4, height=2).splitlines()
    assert drawn == ["3 ┤⠑⢄⠀⠀", "0 ┤⠀⠀⠑⢄", "  └────", "   0  3"]


def test_a_curve_without_finite_points_says_so() -> None:
    assert plot_series([1, 2], [math.nan, math.inf]) == "no points to draw"
    assert "┤" in plot_series([1], [5.0])
