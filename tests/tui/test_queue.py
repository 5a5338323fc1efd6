"""The queue's screen by its keys: what it shows, what it asks before it acts, and that a silent SLURM stops nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from qad_core.slurm.site import FLOOR_VARIABLE
from qad_tui.app import QadApp
from qad_tui.screens.confirm import ConfirmScreen
from qad_tui.screens.queue import QueueScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.widgets.queue_table import QueueTable
from tests.tui.conftest import NARROW, POLL_SECONDS, Clock, wait_until, words
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.queue_fleet import make_chain, show_cluster

DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin")
    show_cluster(fake, time.time())
    return fake


@pytest.fixture
def app(root: Path, slurm: FakeSlurm) -> QadApp:
    make_chain(root, time.time())
    return QadApp([root], poll_seconds=POLL_SECONDS, client=slurm.client())


@asynccontextmanager
async def opened_queue(app: QadApp, rows: int = 5) -> AsyncGenerator[Pilot[None]]:
    """The queue's screen with its answer; the question about links comes after the one about everybody."""
    async with app.run_test(size=NARROW, notifications=True) as pilot:
        await pilot.press("3")
        await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await wait_until(pilot, lambda: len(table_of(app).rows) == rows and len(app.fleet.rows) == 1)
        await wait_until(pilot, lambda: app.focused is table_of(app) or not rows)
        yield pilot


def table_of(app: QadApp) -> QueueTable:
    return app.screen.query_one(QueueTable)


def shown_ids(app: QadApp) -> list[str]:
    return [entry.job_id for entry in table_of(app).rows]


def told(app: QadApp) -> str:
    """What the notifications say."""
    return "\n".join(notification.message for notification in app._notifications)


async def ask(app: QadApp, pilot: Pilot[None], key: str) -> ConfirmScreen:
    await pilot.press(key)
    await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
    assert isinstance(app.screen, ConfirmScreen)
    return app.screen


async def test_my_jobs_stand_in_the_order_in_which_they_matter(app: QadApp) -> None:
    async with opened_queue(app):
        assert shown_ids(app) == ["102", "91", "103", "104", "90"]
        assert "1 run" in words(app, "#queue-words") and "1 stuck" in words(app, "#queue-words")
        assert "link 2/4 of Qwen3-8B" in words(app, "#job")


async def test_everyone_s_jobs_are_a_key_away_and_no_question(app: QadApp, slurm: FakeSlurm) -> None:
    async with opened_queue(app) as pilot:
        before = len(slurm.calls("squeue"))
        await pilot.press("a")
        assert {"80", "81_4"} <= set(shown_ids(app))
        assert len(slurm.calls("squeue")) == before


async def test_the_filter_finds_names_runs_states_and_reasons(app: QadApp) -> None:
    async with opened_queue(app) as pilot:
        for text, found in (
            ("sweep", ["91"]),
            ("qwen3 stuck", ["104"]),
            ("held by its owner", ["90"]),
            ("nothing", []),
        ):
            await pilot.press("slash")
            app.screen.query_one(Input).value = text
            await wait_until(pilot, lambda found=found: shown_ids(app) == found)
            await pilot.press("enter")
        assert "No job has “nothing”" in words(app, "#queue-empty")
        await pilot.press("escape")
        await wait_until(pilot, lambda: len(shown_ids(app)) == 5 and app.focused is table_of(app))


async def test_the_filter_takes_letters_that_are_keys_elsewhere(app: QadApp) -> None:
    async with opened_queue(app) as pilot:
        await pilot.press("slash", "x", "h", "3")
        assert app.screen.query_one(Input).value == "xh3" and isinstance(app.screen, QueueScreen)


async def test_a_column_sorts_and_turns_round(app: QadApp) -> None:
    async with opened_queue(app) as pilot:
        await pilot.press("s")
        assert shown_ids(app) == ["90", "91", "102", "103", "104"]
        await pilot.press("S")
        assert shown_ids(app) == ["104", "103", "102", "91", "90"]


async def test_the_cursor_stays_on_its_job_when_others_go(app: QadApp, slurm: FakeSlurm) -> None:
    async with opened_queue(app) as pilot:
        await pilot.press("j", "j", "j")
        slurm.show_jobs([{"JobArrayID": 104, "Reason": "DependencyNeverSatisfied"}, {"JobArrayID": 200}])
        app.note_slurm_action()
        await wait_until(pilot, lambda: len(table_of(app).rows) == 2)
        chosen = table_of(app).chosen
        assert chosen is not None and chosen.job_id == "104"


async def test_enter_opens_the_chain_of_the_job_s_run(app: QadApp) -> None:
    async with opened_queue(app) as pilot:
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen))
        await pilot.press("escape", "G", "enter")
        await wait_until(pilot, lambda: "no link of a run" in told(app))
        assert isinstance(app.screen, QueueScreen)


async def test_enter_and_escape_in_a_question_do_nothing(app: QadApp, slurm: FakeSlurm) -> None:
    async with opened_queue(app) as pilot:
        for key in ("enter", "escape", "n"):
            await ask(app, pilot, "h")
            await pilot.press(key)
            await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await pilot.pause(0.2)
        assert slurm.calls("scontrol") == [] and slurm.calls("scancel") == []


@pytest.mark.parametrize(
    ("key", "row", "call"),
    [
        ("h", 1, "scontrol hold 91"),
        ("u", 4, "scontrol release 90"),
        ("R", 0, "scontrol requeue 102"),
        ("x", 1, "scancel 91"),
    ],
)
async def test_a_job_is_changed_after_a_yes(app: QadApp, slurm: FakeSlurm, key: str, row: int, call: str) -> None:
    async with opened_queue(app) as pilot:
        await pilot.press(*["j"] * row)
        await ask(app, pilot, key)
        await pilot.press("y")
        await wait_until(pilot, lambda: call in slurm.calls())
        await wait_until(pilot, lambda: "Job" in told(app))


async def test_selected_jobs_are_changed_together_and_each_refusal_is_told(app: QadApp, slurm: FakeSlurm) -> None:
    slurm.fail("scontrol", "slurm_suspend error: x\nJob is pending execution")
    async with opened_queue(app) as pilot:
        await pilot.press("j", "space", "space")
        question = await ask(app, pilot, "h")
        assert question.question == "Hold 2 jobs?"
        await pilot.press("y")
        await wait_until(pilot, lambda: told(app).count("SLURM refused to hold") == 2)
        assert slurm.calls("scontrol") == ["scontrol hold 91", "scontrol hold 103"]


async def test_a_job_of_someone_else_is_not_touched(app: QadApp, slurm: FakeSlurm) -> None:
    async with opened_queue(app) as pilot:
        await pilot.press("a", "j", "x")
        await wait_until(pilot, lambda: "Job 80 is anna's: only your own jobs can be changed here." in told(app))
        assert isinstance(app.screen, QueueScreen) and slurm.calls("scancel") == []


async def test_cancelling_a_link_asks_whether_the_whole_chain_is_meant(app: QadApp) -> None:
    async with opened_queue(app) as pilot:
        question = await ask(app, pilot, "x")
        assert [choice.label for choice in question.choices] == [
            "This job only",
            "The whole chain (3 links), saves first",
        ]
        assert question.query_one(OptionList).highlighted == 0, "the cursor stands on No"


async def test_a_controller_that_is_down_is_no_empty_queue(app: QadApp, slurm: FakeSlurm) -> None:
    slurm.fail("squeue", DOWN)
    async with opened_queue(app, rows=0) as pilot:
        await wait_until(pilot, lambda: "SLURM does not answer" in words(app, "#queue-empty"))
        assert "no jobs" not in words(app, "#queue-empty")
        assert "SLURM silent" in words(app, "TopBar")


async def test_the_last_answer_stays_and_says_its_age(app: QadApp, slurm: FakeSlurm) -> None:
    async with opened_queue(app) as pilot:
        slurm.fail("squeue", DOWN)
        app.note_slurm_action()
        await wait_until(pilot, lambda: "⚠ stale" in words(app, "#queue-words"))
        assert "the controller cannot be reached" in words(app, "#queue-words")
        assert "SLURM stale" in words(app, "TopBar") and len(shown_ids(app)) == 5


async def test_a_squeue_that_hangs_for_a_minute_holds_up_no_key(app: QadApp, slurm: FakeSlurm) -> None:
    async with opened_queue(app) as pilot:
        slurm.hang("squeue", 60)
        app.note_slurm_action()
        await wait_until(pilot, lambda: app.slurm_asker.is_asking)
        waits: list[float] = []
        for number in range(40):
            key, at = ("j", number % 4 + 1) if number % 8 < 4 else ("k", 3 - number % 4)
            began = time.perf_counter()
            await pilot.press(key)
            assert table_of(app).rows[at] is table_of(app).chosen
            waits.append(time.perf_counter() - began)
        assert app.slurm_asker.is_asking, "squeue still hangs"
        assert sorted(waits)[int(0.95 * len(waits))] < 0.5
        await pilot.press("1")
        await wait_until(pilot, lambda: not isinstance(app.screen, QueueScreen))
    assert app.slurm_asker.is_asking, "and nobody had to wait for it to leave"


async def test_a_machine_without_slurm_says_so_and_what_works(root: Path, tmp_path: Path) -> None:
    nothing = FakeSlurm(tmp_path / "none")
    for command in nothing.folder.iterdir():
        command.unlink()
    client = nothing.client()
    assert client.environ is not None
    app = QadApp([root], poll_seconds=POLL_SECONDS, client=type(client)(5.0, {"PATH": str(nothing.folder)}))
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("3")
        await wait_until(pilot, lambda: "There is no SLURM on this machine" in words(app, "#queue-empty"))
        assert "no SLURM here" in words(app, "TopBar")


async def test_nobody_looks_after_ten_minutes_and_the_next_key_asks_again(root: Path, slurm: FakeSlurm) -> None:
    clock = Clock(time.time())
    slurm.show_jobs([])
    app = QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=slurm.client())
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("3")
        await wait_until(pilot, lambda: app.slurm.jobs is not None and not app.slurm_asker.is_asking)
        clock.unix_time += 600
        await pilot.pause(5 * POLL_SECONDS)
        assert len(slurm.calls("squeue")) == 1 and app.slurm_next_at is None
        await pilot.press("j")
        await wait_until(pilot, lambda: len(slurm.calls("squeue")) == 2)


async def test_a_terminal_without_the_focus_asks_for_nobody(root: Path, slurm: FakeSlurm) -> None:
    slurm.show_jobs([])
    app = QadApp([root], poll_seconds=POLL_SECONDS, client=slurm.client())
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("3")
        await wait_until(pilot, lambda: app.slurm.jobs is not None)
        app.post_message(events.AppBlur())
        await wait_until(pilot, lambda: app.slurm_next_at is None)
        app.post_message(events.AppFocus())
        await wait_until(pilot, lambda: app.slurm_next_at is not None)


async def test_the_site_s_floor_holds_against_the_settings(
    root: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FLOOR_VARIABLE, "120")
    app = QadApp([root], poll_seconds=POLL_SECONDS, client=slurm.client())
    assert app.slurm_watch.pace.usual == 120 and app.slurm_watch.pace.least == 120


async def test_y_copies_the_job_s_id(app: QadApp) -> None:
    async with opened_queue(app) as pilot:
        await pilot.press("j", "y")
        assert app.clipboard == "91"
