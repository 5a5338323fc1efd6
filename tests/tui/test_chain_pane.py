"""The chain of a run by its keys, and the words and drawings that it is made of."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from qad_core.run.folder import RunFolder
from qad_core.run.store import summarize_run
from qad_core.slurm.answers import SlurmAnswers
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.records import parse_accounting, parse_queue
from qad_core.slurm.views import RunView, jobs_of, view_run
from qad_tui.app import QadApp
from qad_tui.chain_answers import cancelled_words, refusal_words, submitted_words
from qad_tui.chain_rows import FolderFacts, LinkRow, make_rows
from qad_tui.headless import Answer, read_answer
from qad_tui.panes.chain import ChainPane, read_facts
from qad_tui.screens.add_links import AddLinksScreen
from qad_tui.screens.confirm import ConfirmScreen
from qad_tui.widgets.chain_view import ChainTable, describe_link, describe_timeline
from tests.tui.conftest import NARROW, POLL_SECONDS, Clock, wait_until, words
from tests.tui.fake_slurm import FakeSlurm, queue_record
from tests.tui.made_fleet import make_fleet, write_config
from tests.tui.queue_fleet import HOUR, chain_records, make_chain, show_cluster

NOW = 1_790_000_000.0
TIMES = "\x1f".join(str(int(NOW - hours * HOUR)) for hours in (9, 8, 4))
CANCELLED = f"101\x1fCANCELLED by 0\x1f0:15\x1f{TIMES}\x1f14400\x1f240\x1fnode01\x1fNone"
"""What sacct says of the first link."""


@pytest.fixture
def view(root: Path) -> RunView:
    """A run with four links, as SLURM answers about them at NOW."""
    run = summarize_run(make_chain(root, NOW))
    queue = {entry.job_id: entry for entry in parse_queue("".join(map(queue_record, chain_records(NOW))))}
    accounting = {entry.job_id: entry for entry in parse_accounting(CANCELLED)}
    return view_run(run, jobs_of(run), SlurmAnswers(queue, accounting), NOW)


def rows_of(view: RunView) -> list[LinkRow]:
    facts = read_facts(view.run.folder, [link.job for link in view.links])
    return make_rows(view.links, facts, {entry.job_id: entry for entry in parse_accounting(CANCELLED)})


def test_a_link_s_steps_go_from_its_checkpoint_to_the_next_link_s(view: RunView) -> None:
    assert [row.steps for row in rows_of(view)] == ["0 → 400", "400 → 600", "", ""]


def test_who_cancelled_a_link_is_named(view: RunView) -> None:
    assert rows_of(view)[0].stopped_by == "cancelled by root"


def test_an_exit_code_says_what_it_means(view: RunView) -> None:
    assert rows_of(view)[0].exit_words == "3 saved, to go on" and rows_of(view)[1].exit_words == ""


def test_why_a_chain_was_stopped_stands_at_the_link_that_ran_last(view: RunView) -> None:
    folder = RunFolder(view.run.path)
    folder.slurm.mkdir()
    folder.chain_stop("c0ffee").write_text("two starts in a row gained no checkpoint")
    assert [bool(row.chain_stop) for row in rows_of(view)] == [False, True, False, False]


def test_a_dependency_that_cannot_come_is_a_failure_with_the_keys_that_clear_it(view: RunView) -> None:
    text = describe_link(rows_of(view)[3], frozenset(), now=NOW).plain
    assert text.startswith("✗ link 4/4, job 104") and "X clears the chain, x this job" in text


def test_the_timeline_shows_when_each_link_waited_ran_and_will_run(view: RunView) -> None:
    first, second, third, fourth, axis = describe_timeline(rows_of(view), now=NOW, width=107).plain.split("\n")
    assert first.count("█") == pytest.approx(100 * 4 / 9.5, abs=2) and first.rstrip().endswith("█")
    assert second.rstrip().endswith("░") and second.index("█") > first.rindex("█")
    assert "█" not in third + fourth and "·" in third
    assert axis.strip().startswith("9.0h ago") and axis.endswith("in 30m")


@pytest.mark.parametrize("width", [0, 10, 27, 60, 300])
def test_a_timeline_fits_any_width(view: RunView, width: int) -> None:
    lines = describe_timeline(rows_of(view), now=NOW, width=width).plain.split("\n")
    assert all(len(line) <= max(width, 0) for line in lines)


def test_a_vanished_folder_tells_nothing_and_nothing_breaks(view: RunView, tmp_path: Path) -> None:
    assert read_facts(RunFolder(tmp_path / "gone"), [link.job for link in view.links]) == FolderFacts()


def test_what_a_command_answered_becomes_sentences() -> None:
    cancelled = Answer(("cancel", "run"), 0, {"stopping": ["12"], "cancelled": ["13", "14"], "ending": []})
    assert cancelled_words(cancelled) == ["Job 12: told to save and stop.", "Jobs 13, 14: cancelled."]
    submitted = Answer(("submit", "run"), 0, {"jobs": [{"job_id": "15"}], "warnings": ["it can never start"]})
    assert submitted_words(submitted) == ["Job 15: submitted.", "it can never start"]
    broken = read_answer(("submit", "my run"), 137, "", "Killed")
    assert refusal_words(broken) == ["qad_core submit 'my run' ended with exit code 137: Killed"]


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin")
    show_cluster(fake, time.time())
    return fake


@asynccontextmanager
async def opened_chain(root: Path, slurm: FakeSlurm) -> AsyncGenerator[tuple[QadApp, Pilot[None]]]:
    path = make_chain(root, time.time())
    app = QadApp([root], poll_seconds=POLL_SECONDS, client=slurm.client())
    async with app.run_test(size=NARROW, notifications=True) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows) and app.slurm.answered_at is not None)
        app.open_run(path)
        await wait_until(pilot, lambda: bool(app.screen.query(ChainPane)))
        await pilot.press("h")
        await wait_until(pilot, lambda: app.focused is app.screen.query_one(ChainTable))
        await wait_until(pilot, lambda: [row.view.live for row in table_of(app).rows] == [False, True, True, True])
        yield app, pilot


def table_of(app: QadApp) -> ChainTable:
    return app.screen.query_one(ChainTable)


def offered(app: QadApp) -> set[str]:
    """The keys that submit and cancel, as far as they are in the footer."""
    return {"x", "X", "a"} & {active.binding.key for active in app.screen.active_bindings.values()}


def told(app: QadApp) -> str:
    return "\n".join(notification.message for notification in app._notifications)


async def test_a_key_opens_the_chain_with_the_cursor_on_what_runs(root: Path, slurm: FakeSlurm) -> None:
    async with opened_chain(root, slurm) as (app, pilot):
        assert "4 links, 3 of them in the queue" in words(app, "#chain-words")
        assert offered(app) == {"x", "X", "a"}
        await pilot.press("g", "j")
        await wait_until(pilot, lambda: words(app, "#link").startswith("● link 2/4, job 102: runs"))
        await pilot.press("G")
        await wait_until(pilot, lambda: "It can never start" in words(app, "#link"))


async def test_a_link_that_waits_is_cancelled_alone(root: Path, slurm: FakeSlurm) -> None:
    async with opened_chain(root, slurm) as (app, pilot):
        await pilot.press("G", "x")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert app.screen.query_one(OptionList).highlighted == 0
        await pilot.press("j", "enter")
        await wait_until(pilot, lambda: "scancel 104" in slurm.calls())
        await wait_until(pilot, lambda: "Job 104: is cancelled" in told(app))


async def test_the_whole_chain_is_cancelled_as_the_command_does_it(root: Path, slurm: FakeSlurm) -> None:
    async with opened_chain(root, slurm) as (app, pilot):
        await pilot.press("X")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert slurm.calls("scancel") == [], "enter is No"
        await pilot.press("X")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await wait_until(pilot, lambda: "Job 102: told to save and stop." in told(app))
        assert "Jobs 103, 104: cancelled." in told(app)
        assert slurm.calls("scancel") == [
            "scancel 104 103",
            "scancel --state=RUNNING --batch --signal=USR1 102",
        ]


async def test_links_are_added_behind_the_last_one_by_the_command_that_is_shown(root: Path, slurm: FakeSlurm) -> None:
    async with opened_chain(root, slurm) as (app, pilot):
        await pilot.press("a")
        await wait_until(pilot, lambda: isinstance(app.screen, AddLinksScreen))
        await pilot.press("2")
        field = app.screen.query_one(Input)
        await wait_until(pilot, lambda: field.value in ("2", "12"))
        assert f"--links {field.value} --after afterany:104" in words(app, "#said")
        await pilot.press("enter")
        await wait_until(pilot, lambda: bool(told(app)))
        assert "model is missing" in told(app), "the made run's config is no whole one, and that is what is told"


async def test_a_run_without_links_says_what_to_do(root: Path, slurm: FakeSlurm) -> None:
    fleet = make_fleet(root, now=time.time())
    app = QadApp([root], poll_seconds=POLL_SECONDS, client=slurm.client())
    async with app.run_test(size=NARROW) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        app.open_run(fleet["done"].folder.path, tab="chain")
        await wait_until(pilot, lambda: bool(app.screen.query(ChainPane)))
        await wait_until(pilot, lambda: "This run has no links on SLURM" in words(app, "#chain-empty"))
        await pilot.press("a")
        await wait_until(pilot, lambda: isinstance(app.screen, AddLinksScreen))
    assert slurm.calls() == [], "nothing is asked for runs without links"


async def test_a_local_run_is_offered_no_key_of_slurms_and_says_why(root: Path, slurm: FakeSlurm) -> None:
    run = make_fleet(root, now=time.time())["done"]
    write_config(run, "cluster.kind=local")
    app = QadApp([root], poll_seconds=POLL_SECONDS, client=slurm.client())
    async with app.run_test(size=NARROW) as pilot:
        await wait_until(pilot, lambda: bool(app.fleet.rows))
        app.open_run(run.folder.path, tab="chain")
        await wait_until(pilot, lambda: bool(app.screen.query(ChainPane)))
        await wait_until(pilot, lambda: "Its cluster is local" in words(app, "#chain-empty"))
        assert "submit it as a chain" not in words(app, "#chain-empty")
        assert offered(app) == set()
        await pilot.press("a", "x", "X")
        assert app.screen.query(ChainPane), "no question was asked"


async def test_where_there_is_no_slurm_no_key_of_its_is_offered_and_that_is_said(
    root: Path, tmp_path: Path, clock: Clock
) -> None:
    path, local = make_chain(root, clock()), make_fleet(root, now=clock())["done"].folder.path
    app = QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=SlurmClient(environ={"PATH": str(tmp_path)}))
    async with app.run_test(size=NARROW) as pilot:
        await wait_until(pilot, lambda: path in app.fleet.rows)
        app.open_run(path, tab="chain")
        await wait_until(pilot, lambda: bool(app.screen.query(ChainPane)))
        await wait_until(pilot, lambda: "no SLURM here: nothing can be changed" in words(app, "#chain-words"))
        await wait_until(pilot, lambda: offered(app) == set())
        await pilot.press("escape")
        app.open_run(local, tab="chain")
        await wait_until(pilot, lambda: bool(app.screen.query(ChainPane)))
        await wait_until(pilot, lambda: "no SLURM here to submit it to: sbatch is" in words(app, "#chain-empty"))


async def test_what_links_do_is_not_known_while_slurm_has_never_answered(
    root: Path, tmp_path: Path, clock: Clock
) -> None:
    path = make_chain(root, clock())
    slurm = FakeSlurm(tmp_path / "bin")
    slurm.hang("squeue", 2)
    slurm.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    app = QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=slurm.client())
    async with app.run_test(size=NARROW) as pilot:
        await wait_until(pilot, lambda: path in app.fleet.rows)
        app.open_run(path, tab="chain")
        await wait_until(pilot, lambda: "asking SLURM" in words(app, "#chain-words"))
        assert "4 links, what they do is not known" in words(app, "#chain-words")
        await wait_until(pilot, lambda: bool(app.slurm.problem))
        await wait_until(pilot, lambda: "⚠ SLURM is silent: " in words(app, "#chain-words"))
        assert "4 links, what they do is not known" in words(app, "#chain-words")
        assert "last answer" not in words(app, "#chain-words")


async def test_y_copies_the_job_of_the_link_under_the_cursor(root: Path, slurm: FakeSlurm) -> None:
    async with opened_chain(root, slurm) as (app, pilot):
        await pilot.press("g", "j", "y")
        assert app.clipboard == "102"
