"""The first screen: the list, its keys, and what it says when something is wrong."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.events import Key
from textual.widgets import OptionList, TabbedContent

from qad_core.run.jobs import append_job, local_job
from qad_tui import fleet_model as fleet_module
from qad_tui.app import QadApp
from qad_tui.command import default_roots, main
from qad_tui.headless import Answer
from qad_tui.panes.side import RunSide
from qad_tui.screens import runs as runs_module
from qad_tui.screens.confirm import ConfirmScreen
from qad_tui.screens.help import HelpScreen
from qad_tui.screens.new_run import NewRunScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.screens.runs import RunsScreen
from qad_tui.settings import load_settings
from qad_tui.widgets.filter_line import FilterLine
from qad_tui.widgets.run_table import COLUMN_WORDS, RunTable
from qad_tui.widgets.status_card import StatusCard
from qad_tui.widgets.top_bar import TopBar
from qad_tui.widgets.words import Words
from tests.tui.conftest import NARROW, WIDE, Clock, card_says, list_is_filled, wait_until, words
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun
from tests.tui.queue_fleet import chain_records, make_chain


def lines_of(table: RunTable) -> list[str]:
    """What the table shows."""
    return [table.render_line(y).text for y in range(table.size.height)]


def toasts(app: QadApp) -> str:
    """What the notifications on the screen say."""
    return "\n".join(note.message for note in app._notifications)  # pyright: ignore[reportPrivateUsage]


async def test_at_80_columns_enter_opens_a_run_and_escape_goes_back(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        assert not app.screen.query("#chosen")
        await pilot.press("j", "enter")
        assert isinstance(app.screen, RunDetailScreen)
        await card_says(app, pilot, "evaluating")
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)
        assert app.screen.query_one(RunTable).chosen_path == fleet["evaluating"].folder.path


async def test_from_100_columns_on_the_run_under_the_cursor_is_beside_the_list(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        table = await list_is_filled(app, pilot)
        await card_says(app, pilot, "step 320 of 600")
        await pilot.press("G")
        assert table.chosen_path == Path("runs/Nemotron-9B-nvfp4-old-scripts")
        await card_says(app, pilot, "made by other scripts")
        await pilot.press("g")
        await card_says(app, pilot, "step 320 of 600")


async def test_the_run_under_the_cursor_is_shown_also_where_no_event_told_of_it(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        await list_is_filled(app, pilot)
        await card_says(app, pilot, "step 320 of 600")
        app.screen.query_one(RunSide).show_run(None)  # as if the cursor had come there before there was room
        await card_says(app, pilot, "step 320 of 600")


async def test_help_shows_the_keys_of_the_screen_below(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        keys = {description: key for key, description in app.screen.keys}
        assert keys["Next row"].split() == ["↓", "j"] or keys["Next row"].split() == ["j", "↓"]
        assert "q" in keys["Quit"].split()
        assert {"Open", "Log", "Pause", "Refresh", "Keys"} <= set(keys)
        assert {("d", "Compare"), ("4", "Compare")} <= set(app.screen.keys)
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)


async def test_pause_stops_reading_until_asked_again(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "step 320 of 600")
        await pilot.press("p")
        fleet["running"].train(1)
        await pilot.pause(0.5)
        assert "PAUSED" in words(app, TopBar)
        assert "step 320 of 600" in words(app, StatusCard)
        await pilot.press("r")
        await card_says(app, pilot, "step 321 of 600")
        fleet["running"].train(1)
        await pilot.press("p")
        await card_says(app, pilot, "step 322 of 600")
        assert "live" in words(app, TopBar)


async def test_the_cursor_stays_on_its_run_when_rows_come_and_go(
    app: QadApp, fleet: dict[str, FakeRun], root: Path, clock: Clock
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("j", "j", "j", "j")
        assert table.chosen_path == fleet["done"].folder.path
        newest = FakeRun(root, "newest", 10, clock())
        newest.set_status("starting", updated=time.time())
        await wait_until(pilot, lambda: table.row_count == 9)
        assert (table.chosen_path, table.cursor_row) == (fleet["done"].folder.path, 5)
        shutil.rmtree(newest.folder.path)
        shutil.rmtree(fleet["failed"].folder.path)
        await wait_until(pilot, lambda: table.row_count == 7)
        assert (table.chosen_path, table.cursor_row) == (fleet["done"].folder.path, 3)


async def test_a_vanished_run_leaves_the_list_and_its_open_screen_says_so(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("enter")
        await card_says(app, pilot, "step 320 of 600")
        shutil.rmtree(fleet["running"].folder.path)
        await card_says(app, pilot, "∅ gone")
        assert "this run folder is gone" in words(app, "#run-gone")
        assert "step 320 of 600" in words(app, StatusCard)
        await pilot.press("escape")
        table = await list_is_filled(app, pilot, rows=7)
        assert table.chosen_path == fleet["evaluating"].folder.path


async def test_a_run_that_cannot_be_read_is_named_above_the_list(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    fleet["done"].folder.metrics.unlink()
    fleet["done"].folder.metrics.mkdir()
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot, rows=7)
        assert "Is a directory" in words(app, "#problems")


async def test_without_runs_the_screen_says_where_it_looked_and_what_to_type(app: QadApp, root: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await wait_until(pilot, lambda: "No runs yet under runs" in words(app, "#empty"))
        assert "qad_core demo" in words(app, "#empty")
        FakeRun(root, "first", 10, time.time())
        await list_is_filled(app, pilot, rows=1)
        assert app.screen.query_one(RunTable).region.height > 0


@pytest.fixture
def hanging_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A scan of run folders that takes until the event is set."""
    released = threading.Event()
    scan = fleet_module._folders_in  # pyright: ignore[reportPrivateUsage]

    def hang(root: Path) -> Iterator[Path]:
        released.wait(30)
        return scan(root)

    monkeypatch.setattr(fleet_module, "_folders_in", hang)
    yield released
    released.set()


async def test_keys_are_answered_before_the_first_scan_comes_back(
    app: QadApp, fleet: dict[str, FakeRun], hanging_disk: threading.Event
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await wait_until(pilot, lambda: "looking for runs" in words(app, TopBar))
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        hanging_disk.set()
        await list_is_filled(app, pilot)


async def test_a_scan_that_hangs_makes_the_list_stale(
    app: QadApp, fleet: dict[str, FakeRun], clock: Clock, hanging_disk: threading.Event
) -> None:
    hanging_disk.set()
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        hanging_disk.clear()
        await pilot.pause(0.2)
        clock.unix_time += 34
        await wait_until(pilot, lambda: "⚠ stale 34 s" in words(app, TopBar))
        assert app.screen.query_one(RunTable).row_count == 8
        hanging_disk.set()
        await wait_until(pilot, lambda: "live" in words(app, TopBar))


async def test_without_colours_everything_is_still_drawn(
    root: Path, fleet: dict[str, FakeRun], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = QadApp([root], now=clock, poll_seconds=0.05)
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        await card_says(app, pilot, "step 320 of 600")
        await pilot.pause(0.3)
        assert any("✗ failed" in line for line in lines_of(table))


async def test_a_wider_terminal_shows_more_columns_and_longer_names(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)
        narrow = table.column_keys
        await pilot.press("j")
        await pilot.resize_terminal(99, 24)
        await wait_until(pilot, lambda: len(table.column_keys) > len(narrow))
        assert {"state", "name", "loss"} <= set(narrow)
        assert table.chosen_path == fleet["evaluating"].folder.path


async def test_the_filter_looks_at_name_tag_and_state_and_escape_drops_it(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("slash", *"qwen fail")
        assert [row.path for row in table.rows] == [fleet["failed"].folder.path]
        assert "1 with 'qwen fail'" in words(app, "#runs-words")
        await pilot.press("enter")
        assert app.focused is table
        await pilot.press("slash", *" nothing")
        assert "No run has 'qwen fail nothing'" in words(app, "#empty")
        await pilot.press("escape")
        assert table.row_count == 8 and app.focused is table


async def test_letters_typed_into_the_filter_are_no_commands(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("slash", *"qnx2:?p ")
        assert app.screen.query_one(FilterLine).value == "qnx2:?p "
        assert not app.paused and isinstance(app.screen, RunsScreen)


async def test_s_sorts_by_the_next_column_and_the_order_is_kept_for_the_next_time(
    app: QadApp, fleet: dict[str, FakeRun], root: Path, clock: Clock
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        while table.sorted_by != "percent":
            await pilot.press("s")
        shares = [row.run.step / row.run.train_iterations for row in table.rows if row.run.train_iterations]
        assert shares == sorted(shares) and table.rows[-1].run.train_iterations == 0
        await pilot.press("S")
        assert table.rows[0].path == fleet["done"].folder.path
        assert "%▼" in lines_of(table)[0] or "▼%" in lines_of(table)[0]
    again = QadApp([root], now=clock, poll_seconds=0.1)
    async with again.run_test(size=WIDE) as pilot:
        table = await list_is_filled(again, pilot)
        assert (table.sorted_by, table.descending) == ("percent", True)
        assert table.rows[0].path == fleet["done"].folder.path


async def test_chosen_columns_are_kept_for_the_next_time(
    app: QadApp, fleet: dict[str, FakeRun], root: Path, clock: Clock
) -> None:
    async with app.run_test(size=(99, 30)) as pilot:
        table = await list_is_filled(app, pilot)
        assert "speed" not in table.column_keys and "loss" in table.column_keys
        await pilot.press("v")
        picker = app.screen.query_one(OptionList)
        for key in ("loss", "speed"):
            picker.highlighted = list(COLUMN_WORDS).index(key)
            await pilot.press("space")
        await pilot.press("enter")
        assert "speed" in table.column_keys and "loss" not in table.column_keys
    again = QadApp([root], now=clock, poll_seconds=0.1)
    async with again.run_test(size=(99, 30)) as pilot:
        table = await list_is_filled(again, pilot)
        assert "speed" in table.column_keys and "loss" not in table.column_keys
        await pilot.press("v", "a")
        assert "loss" in table.column_keys


async def test_columns_are_marked_by_a_sign_and_not_by_colour_alone(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=(99, 30)) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("v")
        picker = app.screen.query_one(OptionList)

        def signs() -> dict[str, str]:
            return {key: str(picker.get_option(key).prompt)[:2] for key in ("state", "loss", "speed")}

        assert signs() == {"state": "✓ ", "loss": "✓ ", "speed": "  "}
        for key in ("state", "loss", "speed"):
            picker.highlighted = list(COLUMN_WORDS).index(key)
            await pilot.press("space")
        assert signs() == {"state": "✓ ", "loss": "  ", "speed": "✓ "}


async def test_the_list_has_two_thirds_and_brackets_move_its_border_for_the_next_time_too(
    app: QadApp, fleet: dict[str, FakeRun], root: Path, clock: Clock
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        await card_says(app, pilot, "step 320 of 600")
        assert 72 <= table.size.width <= 78 and "eta" in table.column_keys
        await pilot.press("right_square_bracket")
        await wait_until(pilot, lambda: table.size.width == 120)
        assert not app.screen.query_one("#chosen").display and "speed" in table.column_keys
        await pilot.press("G")
        await pilot.press("left_square_bracket")
        await card_says(app, pilot, "made by other scripts")
        await pilot.press("left_square_bracket")
        await wait_until(pilot, lambda: table.size.width == 60)
        await wait_until(pilot, lambda: (root.parent / "qad-tui-home" / "state.json").exists())
        await wait_until(pilot, lambda: load_settings().state.list_percent == 50)
    again = QadApp([root], now=clock, poll_seconds=0.1)
    async with again.run_test(size=WIDE) as pilot:
        table = await list_is_filled(again, pilot)
        await wait_until(pilot, lambda: table.size.width == 60)


async def test_at_200_columns_the_list_has_step_and_speed_beside_the_run(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=(200, 50)) as pilot:
        table = await list_is_filled(app, pilot)
        assert {"steps", "speed", "eta", "spark", "link"} <= set(table.column_keys)
        assert app.screen.query_one("#chosen").display


async def test_a_home_that_cannot_be_written_is_said_and_the_order_holds_all_the_same(
    app: QadApp, fleet: dict[str, FakeRun], tmp_path: Path
) -> None:
    (tmp_path / "qad-tui-home").write_text("no folder")
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("s")
        await wait_until(pilot, lambda: "cannot be written" in toasts(app))
        assert table.sorted_by == "state"


async def test_space_selects_runs_for_the_comparison_also_through_a_filter(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("space")
        await pilot.press("slash", *"qat", "enter", "space")
        assert set(app.selected) == {fleet["running"].folder.path, fleet["done"].folder.path}
        assert "2 selected" in words(app, "#runs-words")
        await pilot.press("d")
        assert app.current_mode == "compare"
        await pilot.press("1", "escape", "escape")
        assert not app.selected and table.row_count == 8


async def test_what_is_typed_after_quitting_does_nothing(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        app.exit()
        await app.on_event(Key("d", "d"))
        assert isinstance(app.screen, RunsScreen)


async def test_n_opens_an_empty_form_where_there_is_no_run(app: QadApp) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await wait_until(pilot, lambda: "No runs yet" in words(app, "#empty"))
        await pilot.press("n")
        await wait_until(pilot, lambda: isinstance(app.screen, NewRunScreen))


async def test_tab_goes_round_the_pages_of_a_run_and_each_says_whose_it_is(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("enter")
        tabs = app.screen.query_one(TabbedContent)
        title = app.screen.query_one("#run-title", Words)
        for tab in ("curves", "log", "config", "chain"):
            await pilot.press("tab")
            await wait_until(pilot, lambda tab=tab: tabs.active == tab and title.display)
            assert title.said.plain.startswith("● ") and title.region.right <= NARROW[0]
            assert title.region.x >= app.screen.query_one("#--content-tab-chain").region.right
        await pilot.press("tab")
        await wait_until(pilot, lambda: tabs.active == "overview" and not title.display)


async def test_keys_beyond_the_footer_are_among_the_commands_once(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Columns", "Log scale", "Copy the command"} <= set(titles)
        assert titles.count("Clone") == titles.count("Keys") == titles.count("Quit") == 1


async def test_n_clones_the_run_under_the_cursor(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("n")
        assert isinstance(app.screen, NewRunScreen)


async def test_cancel_asks_first_and_the_answer_is_no(
    root: Path, clock: Clock, tmp_path: Path, fleet: dict[str, FakeRun]
) -> None:
    make_chain(root, clock())
    slurm = FakeSlurm(tmp_path / "bin")
    slurm.show_jobs(chain_records(clock()))
    app = QadApp([root], now=clock, poll_seconds=0.1, client=slurm.client())
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot, rows=9)
        await pilot.press("slash", *"qwen3-8b", "enter")
        await wait_until(pilot, lambda: bool(table.chosen and table.chosen.link_words == "2/4"))
        await pilot.press("x")
        assert isinstance(app.screen, ConfirmScreen) and app.screen.question == "Cancel job 102?"
        await pilot.press("enter")
        assert isinstance(app.screen, RunsScreen)
        assert not slurm.calls("scancel")
        await pilot.press("x", "j", "enter")
        await wait_until(pilot, lambda: bool(slurm.calls("scancel")))
        assert "102" in slurm.calls("scancel")[0]


async def test_cancel_of_a_local_run_asks_and_has_it_save_and_stop(
    app: QadApp, clock: Clock, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fleet["evaluating"].folder
    append_job(run.jobs, local_job(("train",), pid=os.getpid(), started=clock()))
    asked: list[list[str]] = []

    def answer(arguments: list[str], environ: object) -> Answer:
        asked.append(arguments)
        return Answer(tuple(arguments), 0, {"process": 7, "saves": True})

    monkeypatch.setattr(runs_module, "run_command", answer)
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("j")
        await wait_until(pilot, lambda: bool(table.chosen and table.chosen.view.jobs))
        await pilot.press("x")
        assert isinstance(app.screen, ConfirmScreen) and app.screen.question == "Stop this run?"
        await pilot.press("j", "enter")
        await wait_until(pilot, lambda: "Process 7: told to save and stop." in toasts(app))
        assert asked == [["cancel", str(run.path)]]


async def test_cancel_of_a_run_of_which_nothing_runs_says_so(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("G", "x")
        await wait_until(pilot, lambda: "Nothing of this run waits or runs" in toasts(app))


async def test_what_is_typed_into_the_filter_is_seen(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("slash", *"qwen")
        line = app.screen.query_one(FilterLine)
        assert line.has_focus and line.content_size.height == 1
        assert "qwen" in line.render_line(0).text


async def test_scroll_and_cursor_stay_while_two_hundred_runs_change(app: QadApp, root: Path, clock: Clock) -> None:
    for number in range(200):
        FakeRun(root, f"run-{number:03}", 10, clock()).settle(updated=clock() - number)
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot, rows=200)
        await pilot.press(*["pagedown"] * 4)
        chosen, top = table.chosen_path, table.scroll_offset.y
        newest = FakeRun(root, "newest", 10, clock())
        newest.settle(updated=clock())
        await wait_until(pilot, lambda: table.row_count == 201)
        assert (table.chosen_path, table.scroll_offset.y) == (chosen, top)


def test_roots_come_from_the_environment_or_are_the_folder_runs() -> None:
    assert default_roots({"QAD_CHECKPOINT_ROOT": "/data/qad"}) == [Path("/data/qad")]
    assert default_roots({}) == [Path("runs")]


def test_the_command_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("qad-tui ")
