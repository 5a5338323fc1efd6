from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import Static
from textual_hires_canvas import Canvas

from qad_core.run.store import State
from qad_tui import runs_model
from qad_tui.app import QadApp, default_roots, main
from qad_tui.curve_data import CE_LOSS, Curve
from qad_tui.screens.help import HelpScreen
from qad_tui.screens.log import LogScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.screens.runs import RunsScreen
from qad_tui.states import LOOKS
from qad_tui.widgets.curve_view import CurveView, LossPlot
from qad_tui.widgets.log_view import LogView
from qad_tui.widgets.run_panel import RunPanel
from qad_tui.widgets.run_table import NAME_COLUMN, RunTable
from qad_tui.widgets.status_card import StatusCard
from qad_tui.widgets.top_bar import TopBar
from tests.tui.conftest import Clock, wait_until
from tests.tui.fleet import FakeRun, spoil_metrics

NARROW, WIDE = (80, 24), (120, 40)


def words(app: QadApp, widget: type[Static] | str) -> str:
    """What a Static on the screen says."""
    found = app.screen.query_one(widget, Static) if isinstance(widget, str) else app.screen.query_one(widget)
    content = found.content
    return content.plain if isinstance(content, Text) else str(content)


def curve_of(app: QadApp) -> Curve:
    """What the chart on the screen shows."""
    return app.screen.query_one(CurveView).curve or Curve()


async def list_is_filled(app: QadApp, pilot: Pilot[None], rows: int = 8) -> RunTable:
    table = app.screen.query_one(RunTable)
    await wait_until(pilot, lambda: table.row_count == rows)
    return table


async def card_says(app: QadApp, pilot: Pilot[None], sentence: str) -> None:
    await wait_until(pilot, lambda: sentence in words(app, StatusCard))


async def test_at_80_columns_enter_opens_a_run_and_escape_goes_back(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        assert not app.screen.query_one(RunPanel).display
        await pilot.press("j", "enter")
        assert isinstance(app.screen, RunDetailScreen)
        await card_says(app, pilot, "evaluating")
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)
        assert app.screen.query_one(RunTable).chosen == fleet["evaluating"].folder.path


async def test_from_100_columns_on_the_run_under_the_cursor_is_beside_the_list(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        table = await list_is_filled(app, pilot)
        await card_says(app, pilot, "step 320 of 600")
        await pilot.press("G")
        assert table.chosen == Path("runs/Nemotron-9B-nvfp4-old-scripts")
        await card_says(app, pilot, "made by other scripts")
        await pilot.press("g")
        await card_says(app, pilot, "step 320 of 600")


async def test_a_failed_run_says_what_went_wrong_and_what_to_do(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("j", "j", "j")
        await card_says(app, pilot, "The loss was not finite at steps 141, 142 and 143.")
        assert "→ Lower train.learning_rate" in words(app, StatusCard)
        assert "× 3 step(s) without a finite loss" in words(app, "#curve-words")


async def test_a_run_of_cross_entropy_is_drawn_as_one(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("j", "j", "j", "j")
        await card_says(app, pilot, "CE loss 2.")
        await wait_until(pilot, lambda: curve_of(app).loss == CE_LOSS)
        assert "held-out CE" in str(app.screen.query_one(CurveView).border_title)
        assert len(curve_of(app).line) == 60 and min(curve_of(app).evaluations.values) > 2


async def test_help_shows_the_keys_of_the_screen_below(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        keys = {description: key for key, description in app.screen.keys}
        assert keys["Next run"].split() == ["↓", "j"] or keys["Next run"].split() == ["j", "↓"]
        assert "q" in keys["Quit"].split()
        assert {"Open", "Log", "Log scale", "Pause", "Refresh", "Keys"} <= set(keys)
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


async def test_a_run_is_shown_while_it_grows(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    run = fleet["running"]

    def grow() -> None:
        for _ in range(20):
            run.train(1)
            time.sleep(0.02)

    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "step 320 of 600")
        before = curve_of(app)
        grower = threading.Thread(target=grow)
        grower.start()
        await card_says(app, pilot, "step 340 of 600")
        grower.join()
        await wait_until(pilot, lambda: curve_of(app).last_step == 340)
        after = curve_of(app)
        assert len(after.evaluations) == min(len(before.evaluations) + 1, app.screen.query_one(CurveView).columns // 4)
        log = app.screen.query_one(LogView)
        await wait_until(pilot, lambda: "evaluation at step 340" in log.lines[-1])
        assert log.scroll_y == log.max_scroll_y


async def test_the_cursor_stays_on_its_run_when_rows_come_and_go(
    app: QadApp, fleet: dict[str, FakeRun], root: Path, clock: Clock
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("j", "j", "j", "j")
        assert table.chosen == fleet["done"].folder.path
        newest = FakeRun(root, "newest", 10, clock())
        newest.set_status("starting", updated=time.time())
        await wait_until(pilot, lambda: table.row_count == 9)
        assert (table.chosen, table.cursor_row) == (fleet["done"].folder.path, 5)
        shutil.rmtree(newest.folder.path)
        shutil.rmtree(fleet["failed"].folder.path)
        await wait_until(pilot, lambda: table.row_count == 7)
        assert (table.chosen, table.cursor_row) == (fleet["done"].folder.path, 3)


async def test_a_vanished_run_leaves_the_list_and_its_open_screen_says_so(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("enter")
        await card_says(app, pilot, "step 320 of 600")
        shutil.rmtree(fleet["running"].folder.path)
        await card_says(app, pilot, "this run folder is gone")
        assert "step 320 of 600" in words(app, StatusCard)
        await pilot.press("escape")
        table = await list_is_filled(app, pilot, rows=7)
        assert table.chosen == fleet["evaluating"].folder.path


async def test_a_corrupt_metrics_line_is_called_out_and_nothing_else_stops(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    spoil_metrics(fleet["running"])
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "metrics.jsonl: 1 unreadable line(s) left out")
        await wait_until(pilot, lambda: curve_of(app).last_step == 321)


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


async def test_a_quiet_running_run_is_called_stale(app: QadApp, fleet: dict[str, FakeRun], clock: Clock) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "last change 2 s ago")
        assert "⚠" not in words(app, StatusCard)
        clock.unix_time += 32
        await card_says(app, pilot, "⚠ last change 34 s ago")


@pytest.fixture
def hanging_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A scan of run folders that takes until the event is set."""
    released = threading.Event()
    scan = runs_model.find_run_paths

    def hang(roots: list[Path]) -> Iterator[Path]:
        released.wait(30)
        return scan(roots)

    monkeypatch.setattr(runs_model, "find_run_paths", hang)
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
        await wait_until(pilot, lambda: "stale, last look 34 s ago" in words(app, TopBar))
        assert app.screen.query_one(RunTable).row_count == 8
        hanging_disk.set()
        await wait_until(pilot, lambda: "live" in words(app, TopBar))


async def test_an_unchanged_curve_is_not_drawn_again(
    app: QadApp, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[object] = []
    draw = LossPlot.draw

    def draw_counted(plot: LossPlot, *points: Any, log_scale: bool) -> None:
        drawn.append(points)
        draw(plot, *points, log_scale=log_scale)

    monkeypatch.setattr(LossPlot, "draw", draw_counted)
    async with app.run_test(size=WIDE) as pilot:
        await wait_until(pilot, lambda: bool(drawn))
        await pilot.pause(0.3)
        count = len(drawn)
        await pilot.pause(0.5)
        assert len(drawn) == count
        fleet["running"].train(1)
        await wait_until(pilot, lambda: len(drawn) > count)


async def test_the_newest_evaluation_is_marked_at_the_edge_of_the_chart(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "step 320 of 600")
        await wait_until(pilot, lambda: len(curve_of(app).evaluations) > 0)
        await pilot.pause(0.3)
        canvas = app.screen.query_one("#plot", Canvas)
        rows = [canvas.render_line(y).text for y in range(canvas.size.height)]
        marks = sorted(x for row in rows for x, character in enumerate(row) if character == "◆")
        assert marks[-1] >= canvas.size.width - 4
        assert len(marks) == len(curve_of(app).evaluations)


async def test_y_switches_the_chart_between_linear_and_logarithmic(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await card_says(app, pilot, "step 320 of 600")
        curve = app.screen.query_one(CurveView)
        await pilot.press("y")
        assert "log scale" in str(curve.border_title)
        await pilot.press("enter")
        assert "log scale" in str(app.screen.query_one(CurveView).border_title)
        await pilot.press("y", "escape")
        assert "log scale" not in str(curve.border_title)


async def test_the_log_follows_until_scrolled_and_goes_back_to_older_lines(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    run = fleet["running"]
    with run.log_path.open("a", encoding="utf-8") as file:
        file.writelines(f"INFO  line {number} {'.' * 100}\n" for number in range(5000))
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("l")
        assert isinstance(app.screen, LogScreen)
        log = app.screen.query_one(LogView)
        await wait_until(pilot, lambda: 0 < log.max_scroll_y == log.scroll_y)  # laid out, and at its end
        first_known = log.lines[0]
        await pilot.press("g")
        await wait_until(pilot, lambda: log.lines[0] != first_known)
        assert log.lines[round(log.scroll_y)] == first_known
        run.log("INFO  newest")
        await wait_until(pilot, lambda: log.lines[-1] == "INFO  newest")
        assert log.lines[round(log.scroll_y)] == first_known
        await pilot.press("G")
        assert log.following and log.scroll_y == log.max_scroll_y
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)


async def test_without_colours_everything_is_still_drawn(
    root: Path, fleet: dict[str, FakeRun], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = QadApp([root], now=clock, poll_seconds=0.05)
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        await card_says(app, pilot, "step 320 of 600")
        await pilot.pause(0.3)
        assert "✗ failed" in [table.get_cell_at((row, 0)).plain for row in range(8)]  # type: ignore[arg-type]


async def test_a_wider_terminal_shows_more_columns_and_longer_names(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)
        narrow = [str(key.value) for key in table.columns]
        await pilot.press("j")
        await pilot.resize_terminal(99, 24)
        await wait_until(pilot, lambda: len(table.columns) > len(narrow))
        assert NAME_COLUMN in narrow and "state" in narrow
        assert table.chosen == fleet["evaluating"].folder.path


def test_roots_come_from_the_environment_or_are_the_folder_runs() -> None:
    assert default_roots({"QAD_CHECKPOINT_ROOT": "/data/qad"}) == [Path("/data/qad")]
    assert default_roots({}) == [Path("runs")]


def test_the_command_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("qad-tui ")


def test_every_state_has_a_mark_of_its_own() -> None:
    assert set(LOOKS) == set(get_args(State))
    assert len({look.mark for look in LOOKS.values()}) == len(LOOKS)
