from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.selection import Selection
from textual.widgets import Input, OptionList, Static

from qad_core.run import log_search
from qad_core.run.log_lines import LineBlock
from qad_tui.app import QadApp
from qad_tui.panes.log import LogPane
from qad_tui.screens.log_choice import LogChoiceScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.screens.runs import RunsScreen
from qad_tui.widgets.log_search_line import LogSearchLine
from qad_tui.widgets.log_view import LogView
from qad_tui.widgets.run_table import RunTable
from tests.tui.conftest import NARROW, WIDE, Clock, list_is_filled, wait_until
from tests.tui.made_fleet import FakeRun

LINES = 60_000


def append_lines(path: Path, first: int, count: int) -> None:
    """Lines of 100 bytes each."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"INFO  line {number:>8} {'.' * 79}\n" for number in range(first, first + count))


@pytest.fixture
def long_log(fleet: dict[str, FakeRun]) -> Path:
    """The log of the first run of the list, of six megabytes; an error in its midst, before a warning."""
    path = fleet["running"].log_path
    append_lines(path, 0, LINES // 2)
    with path.open("a", encoding="utf-8") as file:
        file.write("ERROR  RuntimeError: CUDA out of memory\nWARNING  here is a Needle\n")
    append_lines(path, LINES // 2, LINES // 2)
    return path


async def open_tab(app: QadApp, pilot: Pilot[None]) -> None:
    """Open the log of the running run."""
    await list_is_filled(app, pilot)
    app.open_run(next(path for path in app.fleet.rows if path.name.endswith("stdlib-lr1e-06")), tab="log")
    await pilot.pause()


async def open_log(app: QadApp, pilot: Pilot[None]) -> LogView:
    await open_tab(app, pilot)
    await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen) and bool(app.screen.query(LogView)))
    view = app.screen.query_one(LogView)
    await wait_until(pilot, lambda: view.has_focus and bool(view.lines) and view.scroll_y == view.max_scroll_y)
    return view


def top(view: LogView) -> str:
    return view.top.text if view.top else ""


def said(app: QadApp) -> str:
    return str(app.screen.query_one("#log-said", Static).content)


def title(app: QadApp) -> str:
    return str(app.screen.query_one(LogView).border_title)


def marked(view: LogView) -> str:
    line = view.rows.line_with(view.marked)
    return line.text if line else ""


async def says(app: QadApp, pilot: Pilot[None], part: str) -> None:
    await wait_until(pilot, lambda: part in said(app))


async def test_the_log_opens_at_its_end_follows_pauses_when_scrolled_and_goes_on_with_end(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    run = fleet["running"]
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        assert "following" in title(app)
        run.log("INFO  newer")
        await wait_until(pilot, lambda: bool(view.lines) and view.lines[-1].text == "INFO  newer")
        await wait_until(pilot, lambda: view.scroll_y == view.max_scroll_y)
        await pilot.press("k")
        here = top(view)
        assert "paused at line" in title(app) and "G follows" in title(app)
        run.log("INFO  newest")
        await wait_until(pilot, lambda: bool(view.lines) and view.lines[-1].text == "INFO  newest")
        assert top(view) == here and not view.following
        await pilot.press("end")
        assert view.following and view.scroll_y == view.max_scroll_y
        await pilot.press("o", "l", "k", "escape")
        assert not view.following and isinstance(app.screen, RunsScreen)


async def test_beginning_end_and_any_percentage_of_a_long_file_are_one_key_away(app: QadApp, long_log: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        assert not view.window or not view.window.at_start
        await pilot.press("g")
        await wait_until(pilot, lambda: top(view).startswith("INFO  run SmolLM2"))
        assert "paused at line 1 · 0 %" in title(app)
        await pilot.press("percent_sign", "5", "0", "enter")
        await wait_until(pilot, lambda: abs((view.top.offset if view.top else 0) - long_log.stat().st_size // 2) < 200)
        assert "paused at 50 % of 6.0" in title(app)
        await pilot.press("G")
        await wait_until(pilot, lambda: bool(view.lines) and f"line {LINES - 1:>8}" in view.lines[-1].text)
        await wait_until(pilot, lambda: view.scroll_y == view.max_scroll_y and view.following)
        assert "following" in title(app)


async def test_scrolling_reads_on_in_both_directions_with_few_lines_in_memory(
    app: QadApp, long_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qad_tui.log_tail.MOST_WEIGHT", 1_000_000)
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        for key, step in (("pageup", -1), ("pagedown", 1)):
            begin = int(top(view).split()[2])
            await pilot.press(key)

            def is_far(begin: int = begin, step: int = step) -> bool:
                view.action_move(step * 200)
                return (int(top(view).split()[2]) - begin) * step > 8000

            await wait_until(pilot, is_far)
            numbers = [int(line.text.split()[2]) for line in view.lines]
            assert numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) < 4000


async def test_a_search_goes_through_the_whole_file_and_on_with_n(app: QadApp, long_log: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("slash", *"needle")
        assert isinstance(app.focused, Input)
        await pilot.press("enter")
        await says(app, pilot, '↑ "needle": ')
        assert marked(view) == "WARNING  here is a Needle" and view.top is not None and not view.following
        assert view.has_focus
        assert "▶ WARNING  here is a Needle" in shown_rows(view)
        await pilot.press("n")
        await says(app, pilot, "beyond the beginning")
        await pilot.press("slash", *r"line +5000\b", "down")
        await says(app, pilot, r'↓ "line +5000\b": ')
        await wait_until(pilot, lambda: marked(view).startswith("INFO  line     5000"))
        await pilot.press("slash", *"nowhere", "enter")
        await says(app, pilot, '"nowhere": no line of this file')
        await pilot.press("escape")
        assert not app.screen.query_one(LogSearchLine).display
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)


async def test_keys_typed_into_the_search_are_text_and_invalid_expressions_plain(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("slash", *"q[ew")
        assert app.screen.query_one("#log-field", Input).value == "q[ew" and isinstance(app.screen, RunDetailScreen)
        await pilot.press("ctrl+u", *"loss (", "enter")
        await says(app, pilot, '"loss (": no line')
        await pilot.press("slash")
        assert app.screen.query_one("#log-field", Input).value == "loss ("
        await pilot.press(*"loss 0", "enter")
        await says(app, pilot, '↑ "loss 0"')
        strip = view.render_line(round(view.rows.row_with(view.marked or 0) - view.scroll_y))
        assert any(segment.text == "loss 0" and segment.style and segment.style.reverse for segment in strip)


async def test_the_screen_stays_live_while_a_search_runs_and_escape_stops_it(
    app: QadApp, long_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, begun = threading.Event(), threading.Event()

    def wait_in(pattern: log_search.LogPattern, block: LineBlock) -> list[int]:
        begun.set()
        released.wait(5)
        return []

    monkeypatch.setattr(log_search.LogPattern, "offsets_in", lambda *arguments: iter(wait_in(*arguments)))
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("slash", *"slow", "enter")
        await wait_until(pilot, begun.is_set)
        here = view.scroll_y
        await pilot.press("k")
        assert view.scroll_y == here - 1
        assert app.screen.query_one(LogPane).hunt is not None
        await pilot.press("escape")
        assert said(app) == "search stopped" and app.screen.query_one(LogPane).hunt is None
        released.set()
        await pilot.pause(0.3)
        assert said(app) == "search stopped" and isinstance(app.screen, RunDetailScreen)


async def test_e_jumps_to_the_first_error_of_the_file_and_shift_e_to_the_next(app: QadApp, long_log: Path) -> None:
    with long_log.open("a", encoding="utf-8") as file:
        file.write("ValueError: the last one\n")
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("e")
        await says(app, pilot, "↓ first error: ")
        assert marked(view) == "ERROR  RuntimeError: CUDA out of memory"
        assert {"▶ ERROR  RuntimeError: CUDA out of memory", "! WARNING  here is a Needle"} <= set(shown_rows(view))
        await pilot.press("E")
        await wait_until(pilot, lambda: marked(view) == "ValueError: the last one")
        await pilot.press("E")
        await says(app, pilot, "beyond the end")
        assert marked(view) == "ERROR  RuntimeError: CUDA out of memory"
        await pilot.press("y")
        assert app.clipboard == "ERROR  RuntimeError: CUDA out of memory"


async def test_y_copies_the_selection_else_the_last_line_on_the_screen(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    fleet["running"].log("one two")
    fleet["running"].log("three four")
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        await wait_until(pilot, lambda: bool(view.lines) and view.lines[-1].text == "three four")
        await pilot.press("y")
        assert app.clipboard == "three four"
        last = view.size.height - 1
        await pilot.mouse_down(view, offset=(6, last))  # the border is the first row
        await pilot.hover(view, offset=(7, last + 1))
        await pilot.mouse_up(view, offset=(7, last + 1))
        fleet["running"].log("another that moves the rest")
        await wait_until(pilot, lambda: bool(view.lines) and view.lines[-1].text.startswith("another"))
        await pilot.press("y")
        assert app.clipboard == "two\nthree "


async def test_a_selection_stays_with_its_lines_when_older_ones_come(app: QadApp, long_log: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        serial = view._serial + len(view.lines) - 1
        app.screen.selections = {view: Selection(Offset(0, serial), Offset(10, serial))}
        count = len(view.lines)
        view.action_move(-len(view.lines))
        await wait_until(pilot, lambda: len(view.lines) > count)
        assert view.get_selection(view.text_selection)[0] == "INFO  line"  # type: ignore[arg-type]
        await pilot.press("y")
        assert app.clipboard == "INFO  line"


async def test_w_folds_long_lines_and_the_top_line_stays(app: QadApp, long_log: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("pageup", "pageup")
        here = top(view)
        await pilot.press("w")
        assert top(view) == here and view.rows.count == 2 * len(view.lines)
        assert shown_rows(view)[0].split() == here[:77].split()
        await pilot.press("w")
        assert top(view) == here and view.rows.count == len(view.lines)


def make_starts(run: FakeRun, clock: Clock) -> dict[str, Path]:
    """Two starts of the run: one ended, with two ranks, and one on SLURM, whose job says something on stdout."""
    folder, now = run.folder, clock()
    run.log_path.unlink()
    slurm = run.root / "logs_slurm"
    slurm.mkdir()
    files = {
        "old": folder.logs / "student_qad_2026-01-01_12-00-00.log",
        "old rank 1": folder.logs / "student_qad_2026-01-01_12-00-00_rank1.log",
        "new": folder.logs / "student_qad_2026-01-02_12-00-00.log",
        "new rank 1": folder.logs / "student_qad_2026-01-02_12-00-00_rank1.log",
        "stdout": slurm / "run_77.log",
    }
    for name, path in files.items():
        path.write_text(f"this is {name}\n", encoding="utf-8")
        age = 9000 if name.startswith("old") else 10
        os.utime(path, (now - age, now - age))
    lines = [
        {"id": "local-a", "started": now - 10_000, "ended": now - 9000},
        {"id": "slurm-b", "kind": "slurm", "slurm_job_id": "77", "chain": "c", "link": 1, "links": 2,
         "started": now - 500, "log": str(slurm / "run_%j.log"), "error_log": str(slurm / "err_%j.log")},
    ]  # fmt: skip
    folder.jobs.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return files


async def test_brackets_go_through_the_logs_of_a_start_and_t_lists_those_of_all(
    app: QadApp, fleet: dict[str, FakeRun], clock: Clock
) -> None:
    make_starts(fleet["running"], clock)
    async with app.run_test(size=WIDE) as pilot:
        view = await open_log(app, pilot)

        async def shows(text: str) -> None:
            await wait_until(pilot, lambda: bool(view.lines) and view.lines[-1].text == f"this is {text}")

        await shows("new")
        assert "rank 0 · start 2, link 1, job 77" in title(app)
        for key, text in (("]", "new rank 1"), ("]", "stdout"), ("]", "new"), ("[", "stdout"), ("[", "new rank 1")):
            await pilot.press("right_square_bracket" if key == "]" else "left_square_bracket")
            await shows(text)
        await pilot.press("t")
        await wait_until(pilot, lambda: isinstance(app.screen, LogChoiceScreen))
        screen = app.screen
        assert isinstance(screen, LogChoiceScreen)
        assert [source.who for source in screen.sources] == [
            "rank 0", "rank 1", "job's stdout", "job's stderr", "rank 0", "rank 1",
        ]  # fmt: skip
        assert screen.query_one(OptionList).highlighted == 1
        await pilot.press("j", "j", "j", "enter")
        await shows("old")
        await pilot.press("t")
        await wait_until(pilot, lambda: isinstance(app.screen, LogChoiceScreen))
        await pilot.press("escape")
        assert view.lines[-1].text == "this is old"


async def test_a_new_start_is_gone_along_with_unless_an_older_log_was_chosen(
    app: QadApp, fleet: dict[str, FakeRun], clock: Clock
) -> None:
    run = fleet["running"]
    make_starts(run, clock)
    async with app.run_test(size=WIDE) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("right_square_bracket")
        await wait_until(pilot, lambda: "rank 1" in title(app))
        with run.folder.jobs.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"id": "local-c", "started": clock() - 5}) + "\n")
        (run.folder.logs / "student_qad_2026-01-03_12-00-00_rank1.log").write_text("this is newest\n")
        await wait_until(pilot, lambda: bool(view.lines) and view.lines[-1].text == "this is newest")
        await wait_until(pilot, lambda: "rank 1 · start 3" in title(app))


async def test_a_log_that_is_not_there_yet_is_waited_for(app: QadApp, fleet: dict[str, FakeRun], clock: Clock) -> None:
    run = fleet["running"]
    files = make_starts(run, clock)
    for path in files.values():
        path.unlink()
    async with app.run_test(size=NARROW) as pilot:
        await open_tab(app, pilot)
        await wait_until(
            pilot, lambda: "Waits for run_77.log: the file is not there yet." in " ".join(shown_rows_of(app))
        )
        files["stdout"].write_text("it speaks\n")
        await wait_until(pilot, lambda: "it speaks" in " ".join(shown_rows_of(app)))


async def test_a_run_without_a_log_says_why(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    shutil.rmtree(fleet["running"].folder.logs)
    async with app.run_test(size=NARROW) as pilot:
        await open_tab(app, pilot)
        await wait_until(pilot, lambda: "No log yet." in " ".join(shown_rows_of(app)))
        await pilot.press("e", "slash", "x", "enter", "n", "escape", "g", "G", "y", "w", "t")
        await wait_until(pilot, lambda: isinstance(app.screen, LogChoiceScreen))
        await pilot.press("enter", "j", "G", "escape")
        assert isinstance(app.screen, RunDetailScreen)


async def test_a_log_that_vanishes_keeps_its_last_lines_and_says_so(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    run = fleet["running"]
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        last = view.lines[-1]
        shutil.rmtree(run.folder.logs)
        await wait_until(pilot, lambda: "FILE GONE" in title(app))
        assert view.lines[-1] == last
        run.folder.logs.mkdir()
        run.log("INFO  back")
        await wait_until(pilot, lambda: [line.text for line in view.lines] == ["INFO  back"])
        assert "FILE GONE" not in title(app)


async def test_a_log_that_may_not_be_read_says_why(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    path = fleet["running"].log_path
    path.unlink()
    path.mkdir()  # a folder in its place cannot be read, whoever asks
    async with app.run_test(size=NARROW) as pilot:
        await open_tab(app, pilot)
        await wait_until(pilot, lambda: "cannot be read: Is a directory" in " ".join(shown_rows_of(app)))


async def test_a_truncated_log_is_followed_again_from_its_new_end(app: QadApp, long_log: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("pageup")
        assert not view.following
        long_log.write_text("begun anew\n")
        await wait_until(pilot, lambda: [line.text for line in view.lines] == ["begun anew"])
        assert view.following


async def test_a_click_on_the_bar_goes_to_that_part_of_the_file(app: QadApp, long_log: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        view = await open_log(app, pilot)
        await pilot.click(view, offset=(view.size.width - 1, 1 + view.size.height // 2))
        await wait_until(pilot, lambda: "paused at 5" in title(app) and not view.following)
        await pilot.click(view, offset=(10, 3))
        assert view.marked == view.lines[round(view.scroll_y) + 2].offset


async def test_in_the_split_view_the_log_follows_the_cursor_and_takes_keys_when_focused(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        view = app.screen.query_one(LogView)
        await wait_until(pilot, lambda: bool(view.lines) and "step 320" in view.lines[-2].text)
        assert app.focused is table and not app.screen.query_one(LogSearchLine).display
        for _ in range(3):
            await pilot.press("j")
        await wait_until(pilot, lambda: bool(view.lines) and view.lines[-1].text == "INFO  failed")
        view.focus()
        await pilot.press("e")
        await says(app, pilot, "first error")
        assert marked(view).startswith("ERROR  DivergedError")
        app.screen.query_one(RunTable).focus()
        await pilot.press("g")
        await wait_until(pilot, lambda: bool(view.lines) and "step 320" in view.lines[-2].text)
        assert not app.screen.query_one(LogSearchLine).display and view.following


def shown_rows(view: LogView) -> list[str]:
    """The rows of the view as they are drawn, without the bar."""
    return [view.render_line(y).text[:-1].rstrip() for y in range(view.size.height)]


def shown_rows_of(app: QadApp) -> list[str]:
    views = app.screen.query(LogView)
    return [row.strip() for view in views for row in shown_rows(view)]
