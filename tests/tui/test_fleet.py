"""The fleet: what a look finds, what stays the same object, and what cannot be read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from qad_core.run.jobs import Job, append_job
from qad_core.slurm.answers import NOT_ASKED_YET, SlurmAnswers
from qad_core.slurm.records import parse_queue
from qad_tui.fleet_model import MOST_MISSES, FleetModel
from qad_tui.widgets.run_table import RunContext, make_columns
from tests.core.made_events import write_events
from tests.tui.conftest import Clock
from tests.tui.fake_slurm import queue_record
from tests.tui.made_fleet import FakeRun, make_fleet
from tests.tui.queue_fleet import chain_records, make_chain


def test_the_first_look_finds_every_state(fleet: dict[str, FakeRun], root: Path, clock: Clock) -> None:
    found = FleetModel([root], clock=clock).look()
    states = sorted(row.state for row in found.rows.values())
    assert states == ["done", "failed", "foreign", "killed", "never started", "running", "running", "stopped"]
    assert found.polled_at == clock()


def test_a_row_that_has_not_changed_is_the_same_object(fleet: dict[str, FakeRun], root: Path, clock: Clock) -> None:
    model = FleetModel([root], clock=clock)
    before = model.look().rows
    assert all(row is before[path] for path, row in model.look().rows.items())
    fleet["running"].train(1)
    shutil.rmtree(fleet["done"].folder.path)
    FakeRun(root, "new", 10, clock())
    after = model.look().rows
    assert {path for path in after if path not in before} == {root / "new"}
    changed = {path for path, row in after.items() if path in before and row is not before[path]}
    assert changed == {fleet["running"].folder.path, fleet["done"].folder.path}
    gone = after[fleet["done"].folder.path]
    assert (gone.state, gone.run) == ("gone", before[gone.path].run)


def test_a_root_that_is_not_there_has_no_runs_and_no_problem(tmp_path: Path) -> None:
    found = FleetModel([tmp_path / "none"]).look()
    assert not found.rows and not found.problems


def test_a_root_that_goes_away_is_named(root: Path, fleet: dict[str, FakeRun]) -> None:
    model = FleetModel([root])
    model.look()
    root.rename("moved")
    assert model.look().problems == ("runs is not there any more",)


def test_a_root_that_cannot_be_listed_is_named_and_keeps_its_runs(root: Path, fleet: dict[str, FakeRun]) -> None:
    model = FleetModel([root])
    before = model.look()
    root.rename("moved")
    root.write_text("not a folder", encoding="utf-8")
    found = model.look()
    assert found.problems == ("runs: Not a directory; what was known of its runs stays",)
    assert found.rows == before.rows


def test_one_unreadable_run_is_named_and_stops_no_other(root: Path, fleet: dict[str, FakeRun]) -> None:
    fleet["done"].folder.metrics.unlink()
    fleet["done"].folder.metrics.mkdir()
    found = FleetModel([root]).look()
    assert found.problems == (f"{fleet['done'].name}: Is a directory",)
    assert len(found.rows) == 7


def test_a_vanished_run_is_called_gone_until_it_is_certain(root: Path, fleet: dict[str, FakeRun]) -> None:
    model, path = FleetModel([root]), fleet["done"].folder.path
    model.look()
    path.rename("elsewhere")
    states = [model.look().rows[path].state for _ in range(MOST_MISSES - 1)]
    assert states == ["gone"] * (MOST_MISSES - 1)
    Path("elsewhere").rename(path)
    assert model.look().rows[path].state == "done"
    shutil.rmtree(path)
    for _ in range(MOST_MISSES):
        rows = model.look().rows
    assert path not in rows


def test_a_run_of_other_scripts_has_step_loss_and_age_in_the_list(root: Path, clock: Clock) -> None:
    path = write_events(root / "old", {"lm loss": [2.0, 1.5]})
    os.utime(path, (clock(), clock()))
    row = FleetModel([root], clock=clock).look().rows[root / "old"]
    cells = {column.key: column.cell(row).text for column in make_columns(RunContext(now=clock() + 60))}
    assert (cells["state"], cells["steps"], cells["loss"], cells["changed"]) == ("· foreign", "2", "1.500", "1.0m")
    assert cells["spark"].strip()


def test_a_chain_is_laid_over_its_run_folder(root: Path, clock: Clock) -> None:
    path = make_chain(root, clock())
    records = "".join(queue_record(record) for record in chain_records(clock()))
    answers = SlurmAnswers(queue={entry.job_id: entry for entry in parse_queue(records)}, accounting={})
    row = FleetModel([root], clock=clock).look(answers).rows[path]
    assert (row.state, row.view.stage, row.link_words) == ("running", "steady", "2/4")
    waiting = SlurmAnswers(queue={"103": answers.queue["103"]} if answers.queue else {}, accounting={})
    row = FleetModel([root], clock=clock).look(waiting).rows[path]
    assert (row.state, row.view.stage, row.link_words) == ("queued", "queued", "3/4")


def test_a_run_in_the_queue_is_asked_for_until_slurm_has_answered(root: Path, clock: Clock) -> None:
    runs = make_fleet(root, now=clock())
    fresh = runs["fresh"].folder
    append_job(fresh.jobs, Job(id="slurm-a", kind="slurm", chain="a", link=1, links=1, slurm_job_id="7"))
    model = FleetModel([root], clock=clock)
    assert model.look(NOT_ASKED_YET).rows[fresh.path].state == "asking"
    assert model.look(SlurmAnswers(None, None, ("silent",))).rows[fresh.path].state == "unknown"
