"""The Overview of a run: its status, its health, and why it failed."""

from __future__ import annotations

import math
import shutil
import threading
import time
from pathlib import Path
from typing import get_args

import pytest
from textual.containers import VerticalScroll

from qad_core.commands import outlook
from qad_core.run.jobs import Job, append_job
from qad_core.run.store import summarize_run
from qad_core.slurm.outlook import OutlookState
from qad_tui.app import QadApp
from qad_tui.panes.overview import OverviewPane
from qad_tui.run_facts import evaluation_table, evaluations
from qad_tui.screens.new_run import NewRunScreen
from qad_tui.states import LOOKS
from qad_tui.widgets.failure_card import FailureCard
from qad_tui.widgets.status_card import StatusCard
from tests.tui.conftest import NARROW, WIDE, Clock, card_says, list_is_filled, wait_until, words
from tests.tui.made_fleet import FakeRun, fail_for_memory, spoil_metrics


async def test_a_failed_run_says_what_went_wrong_and_what_to_do(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("j", "j", "j")
        await card_says(app, pilot, "The loss was not finite at steps 141, 142 and 143.")
        assert "→ Lower train.learning_rate" in words(app, StatusCard)


async def test_a_corrupt_metrics_line_is_called_out_and_nothing_else_stops(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    spoil_metrics(fleet["running"])
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "metrics.jsonl: 1 unreadable line(s) left out")
        await card_says(app, pilot, "KD loss 0.1000")


async def test_a_quiet_running_run_is_called_stale(app: QadApp, fleet: dict[str, FakeRun], clock: Clock) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "last change 2 s ago")
        assert "⚠" not in words(app, StatusCard)
        clock.unix_time += 32
        await card_says(app, pilot, "⚠ last change 34 s ago")


async def test_a_run_without_a_new_step_is_found_to_stand_still(
    app: QadApp, fleet: dict[str, FakeRun], clock: Clock
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "step 320 of 600")
        assert "No new step" not in words(app, StatusCard)
        clock.unix_time += 20
        await card_says(app, pilot, "✗ No new step for 22 s while training")


async def test_the_overview_compares_teacher_plain_quantization_and_now(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("enter")
        await card_says(app, pilot, "BF16 teacher")
        said = words(app, StatusCard)
        assert "PTQ, step 0              0.4200" in said
        assert "now, step 320" in said and "gap won back" in said
        assert "✓ healthy" in said


def test_a_kl_that_has_grown_is_no_negative_share(root: Path) -> None:
    run = FakeRun(root, "worse", 100, 0.0, first_kl=0.02, final_kl=0.6)
    run.train(100)
    summary = summarize_run(run.folder.path)
    said = "\n".join(line.plain for line in (*evaluations(summary), *evaluation_table(summary)))
    assert said.count("worse than at step 0: KL x29") == 2 and " -" not in said


async def test_a_run_that_diverges_has_its_findings_on_the_screen(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    run = fleet["running"]
    for _ in range(3):
        run.step += 1
        run.write_step(math.nan)
    run.set_status("training", updated=time.time())
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "✗ The loss or the gradient norm of 3 steps was not finite")
        table = await list_is_filled(app, pilot)
        assert table.rows[0].health == "problem"


async def test_a_failure_card_names_the_cause_and_f_clones_with_the_fix(
    app: QadApp, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_for_memory(fleet["failed"])
    cloned: list[tuple[object, object]] = []
    monkeypatch.setattr(QadApp, "new_run", lambda app, path, changes=(): cloned.append((path, tuple(changes))))
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("slash", *"lr-high", "enter")
        card = app.screen.query_one(FailureCard)
        await wait_until(pilot, lambda: card.display)
        assert card.failure is not None and card.failure.kind == "cuda_out_of_memory"
        assert "CUDA out of memory" in words(app, FailureCard)
        await pilot.press("f")
        assert cloned == [(fleet["failed"].folder.path, card.failure.changes)]
        assert "train.micro_batch_size=1" in card.failure.changes
        await pilot.press("Y")
        assert app.clipboard.startswith("qad_core train ") and "train.micro_batch_size=1" in app.clipboard


async def test_clone_with_fix_opens_the_form_of_a_new_run(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    fail_for_memory(fleet["failed"])
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("slash", *"lr-high", "enter", "enter")
        await wait_until(pilot, lambda: app.screen.query_one(OverviewPane).failure is not None)
        await pilot.press("f")
        assert isinstance(app.screen, NewRunScreen)


async def test_an_overview_higher_than_the_terminal_scrolls(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    fail_for_memory(fleet["failed"])
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("slash", *"lr-high", "enter", "enter")
        box = app.screen.query_one(OverviewPane).query_one(VerticalScroll)
        await wait_until(pilot, lambda: box.max_scroll_y > 0)
        await pilot.press("j")
        await wait_until(pilot, lambda: box.scroll_y == 1)
        await pilot.press("G")
        await wait_until(pilot, lambda: box.scroll_y == box.max_scroll_y)


async def test_a_starting_run_shows_how_far_it_is(app: QadApp, fleet: dict[str, FakeRun], clock: Clock) -> None:
    fleet["running"].set_status("teacher", updated=clock(), started=clock() - 1)
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        assert table.rows[0].view.stage == "teacher"
        await pilot.press("enter")
        await card_says(app, pilot, "✓ starting › ✓ data › ● teacher › student › first step › steady")


async def test_a_queued_run_says_for_what_it_waits(app: QadApp, fleet: dict[str, FakeRun], clock: Clock) -> None:
    job = Job(id="slurm-a", kind="slurm", chain="a", link=1, links=3, submitted=clock(), slurm_job_id="")
    append_job(fleet["fresh"].folder.jobs, job)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("slash", *"tiny", "enter")
        await card_says(app, pilot, "link 1 of 3 (job unknown) submitted, and SLURM's answer is not known")


def test_every_state_has_a_mark_of_its_own() -> None:
    assert set(LOOKS) == {*get_args(OutlookState), "gone", "asking"}
    assert len({look.mark for look in LOOKS.values()}) == len(LOOKS)


async def test_a_run_that_was_never_submitted_says_by_which_command_it_is(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    run = fleet["fresh"]
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        app.open_run(run.folder.path)
        await card_says(app, pilot, f"It was never submitted.\n→ On SLURM: qad_core submit {run.name}")
        assert f"→ Here: qad_core train {run.folder.config}, which Y copies." in words(app, StatusCard)


async def test_a_finished_run_says_how_long_it_took_and_by_which_command_it_is_exported(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    run = fleet["done"]
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        app.open_run(run.folder.path)
        await card_says(app, pilot, "took 1 m 40 s")
        assert f"→ Export it: qad_core export {run.name} --out DIR" in words(app, StatusCard)
        began = run.started - 3600
        append_job(run.folder.jobs, Job(id="local-1", started=began, ended=began + 60, exit_code=3))
        append_job(run.folder.jobs, Job(id="local-2", started=run.started, exit_code=0))
        await card_says(app, pilot, "took 1 h 01 m from its first start, in 2 starts")


async def test_a_vanished_run_is_told_on_every_tab_and_is_neither_healthy_nor_has_time_left(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    path = fleet["running"].folder.path
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        app.open_run(path)
        await card_says(app, pilot, "✓ healthy")
        line = app.screen.query_one("#run-gone")
        assert " left" in words(app, StatusCard) and not line.display
        shutil.rmtree(path)
        await card_says(app, pilot, "∅ gone")
        assert "✓ healthy" not in words(app, StatusCard) and " left" not in words(app, StatusCard)
        await wait_until(pilot, lambda: path not in app.fleet.rows)
        for tab in "clihoh":
            await pilot.press(tab)
            await wait_until(pilot, lambda: line.region.height == 1)
        assert "this run folder is gone" in words(app, "#run-gone")


async def test_a_failed_or_killed_run_has_no_clean_bill_of_health(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        app.open_run(fleet["killed"].folder.path)
        await card_says(app, pilot, "killed, can be resumed")
        assert "healthy" not in words(app, StatusCard)


async def test_the_disk_is_asked_in_a_thread_for_the_command_that_is_copied(
    app: QadApp, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(outlook, "is_folder", lambda path: threads.append(threading.current_thread()) or True)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await card_says(app, pilot, "step 320 of 600")
        await pilot.press("Y")
        await wait_until(pilot, lambda: app.clipboard.startswith("qad_core submit "))
    assert threads and threading.main_thread() not in threads
