from __future__ import annotations

import shutil
from pathlib import Path

from qad_tui.curve_data import Curve
from qad_tui.run_follower import RunFollower, RunFollowers
from qad_tui.runs_model import RunsModel
from tests.tui.conftest import Clock
from tests.tui.fleet import FakeRun, spoil_metrics


def test_the_first_poll_finds_every_state(fleet: dict[str, FakeRun], root: Path, clock: Clock) -> None:
    difference = RunsModel([root], clock=clock).poll()
    states = sorted(run.state for run in difference.added)
    assert states == ["done", "failed", "foreign", "killed", "never started", "running", "running", "stopped"]
    assert difference.polled_at == clock()


def test_a_poll_tells_only_what_changed(fleet: dict[str, FakeRun], root: Path, clock: Clock) -> None:
    model = RunsModel([root], clock=clock)
    model.poll()
    unchanged = model.poll()
    assert not (unchanged.added or unchanged.changed or unchanged.removed)
    fleet["running"].train(1)
    shutil.rmtree(fleet["done"].folder.path)
    FakeRun(root, "new", 10, clock())
    difference = model.poll()
    assert [run.name for run in difference.added] == ["new"]
    assert [run.path for run in difference.changed] == [fleet["running"].folder.path]
    assert difference.removed == (fleet["done"].folder.path,)


def test_a_root_that_is_not_there_has_no_runs_and_no_problem(tmp_path: Path) -> None:
    difference = RunsModel([tmp_path / "none"]).poll()
    assert not difference.added and not difference.problems


def test_a_root_that_cannot_be_listed_is_named_and_keeps_its_runs(root: Path, fleet: dict[str, FakeRun]) -> None:
    model = RunsModel([root])
    model.poll()
    root.rename("moved")
    root.write_text("not a folder", encoding="utf-8")
    difference = model.poll()
    assert difference.problems == ("runs: Not a directory",)
    assert not difference.removed


def test_one_unreadable_run_is_named_and_stops_no_other(root: Path, fleet: dict[str, FakeRun]) -> None:
    fleet["done"].folder.metrics.unlink()
    fleet["done"].folder.metrics.mkdir()
    difference = RunsModel([root]).poll()
    assert difference.problems == (f"{fleet['done'].name}: Is a directory",)
    assert len(difference.added) == 7


def test_a_follower_reads_on_and_counts_corrupt_lines(root: Path, fleet: dict[str, FakeRun]) -> None:
    follower = RunFollower(fleet["running"].folder.path)
    first = follower.read(60)
    assert first is not None and first.log is not None and first.curve.last_step == 320
    spoil_metrics(fleet["running"])
    second = follower.read(60)
    assert second is not None and second.summary is not None
    assert second.summary.bad_lines == 1
    assert second.curve.last_step == 321


def test_a_follower_keeps_what_it_saw_of_a_vanished_run(root: Path, fleet: dict[str, FakeRun]) -> None:
    follower = RunFollower(fleet["done"].folder.path)
    before = follower.read(60)
    shutil.rmtree(fleet["done"].folder.path)
    after = follower.read(60)
    assert before is not None and after is not None
    assert after.gone
    assert (after.curve, after.log) == (before.curve, before.log) and after.curve != Curve()


def test_an_unreadable_log_is_named_and_the_curve_goes_on(root: Path, fleet: dict[str, FakeRun]) -> None:
    fleet["done"].log_path.unlink()
    fleet["done"].log_path.mkdir()
    detail = RunFollower(fleet["done"].folder.path).read(60)
    assert detail is not None
    assert detail.problems == ("log cannot be read: Is a directory",)
    assert len(detail.curve.line) == 60


def test_followers_of_runs_looked_at_lately_are_kept(tmp_path: Path) -> None:
    followers = RunFollowers(capacity=2)
    first = followers.get(tmp_path / "a")
    followers.get(tmp_path / "b")
    assert followers.get(tmp_path / "a") is first
    followers.get(tmp_path / "c")
    followers.get(tmp_path / "d")
    assert followers.get(tmp_path / "a") is not first
