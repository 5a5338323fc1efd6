from __future__ import annotations

import tarfile
import time
from pathlib import Path

from qad_core.run.store import find_runs
from qad_tui.app import QadApp
from qad_tui.command import default_roots, make_parser
from qad_tui.demo.recording import ARCHIVE, read_recording
from qad_tui.demo.replay import ReplayedRun
from qad_tui.demo.start import demo_fleet
from qad_tui.screens.queue import QueueScreen
from qad_tui.settings import SettingsStore
from tests.tui.conftest import wait_until


def test_the_recording_names_no_machine() -> None:
    with tarfile.open(ARCHIVE) as archive:
        texts = [archive.extractfile(member).read().decode() for member in archive]  # type: ignore[union-attr]
    assert len(texts) > 10
    for word in ("/tmp/", "/root", "/work"):
        assert not any(word in text for text in texts)


def test_the_fleet_has_a_run_in_every_state_that_matters_and_none_is_left_behind() -> None:
    with demo_fleet(grows=False) as fleet:
        states = {run.name.rpartition("-lr")[2]: run.state for run in find_runs([fleet.root])}
    assert states == {
        "0.003": "never started",
        "0.001": "done",
        "0.001-qat": "running",
        "0.001-w4a16": "running",
        "1-too-high": "failed",
    }
    assert not fleet.root.exists()


def test_a_running_run_grows_as_it_was_recorded_and_then_is_done(tmp_path: Path) -> None:
    story, recorded = read_recording()
    plan = next(run for run in story.runs if run.ended is None and run.links == ())
    now = time.time()
    run = ReplayedRun(tmp_path, plan, recorded[plan.folder], now)
    run.write()
    (before,) = find_runs([tmp_path])
    run.grow(now + 10 * (plan.seconds_a_step or 1))
    (after,) = find_runs([tmp_path])
    assert (before.step, after.step) == (plan.steps, plan.steps + 10)
    run.grow(now + 10_000)
    (last,) = find_runs([tmp_path])
    assert (last.state, last.step, last.bad_lines) == ("done", 600, 0)


async def test_queue_and_chain_of_the_demo_are_on_the_screen(tmp_path: Path) -> None:
    with demo_fleet(grows=False) as fleet:
        app = QadApp([fleet.root], client=fleet.client, settings=SettingsStore(tmp_path), poll_seconds=0.1)
        async with app.run_test(size=(120, 40)) as pilot:
            states = lambda: {row.state for row in app.fleet.rows.values()}  # noqa: E731
            await wait_until(pilot, lambda: states() == {"running", "queued", "done", "failed"})
            await pilot.press("3")
            await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen) and bool(app.slurm.jobs))
            assert {job.user for job in app.slurm.jobs or ()} >= {"maria", "ines"}


def test_the_command_knows_its_arguments_and_where_runs_are() -> None:
    parsed = make_parser().parse_args(["--demo", "--no-mouse", "here"])
    assert (parsed.demo, parsed.no_mouse, parsed.roots) == (True, True, [Path("here")])
    assert default_roots({"QAD_CHECKPOINT_ROOT": "/data/runs"}) == [Path("/data/runs")]
    assert default_roots({}) == [Path("runs")]
