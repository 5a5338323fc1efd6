"""The log on the screen."""

from __future__ import annotations

from qad_tui.app import QadApp
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.screens.runs import RunsScreen
from qad_tui.widgets.log_view import LogView
from tests.tui.conftest import NARROW, list_is_filled, wait_until
from tests.tui.made_fleet import FakeRun


async def test_the_log_follows_until_scrolled_and_goes_back_to_older_lines(
    app: QadApp, fleet: dict[str, FakeRun]
) -> None:
    run = fleet["running"]
    with run.log_path.open("a", encoding="utf-8") as file:
        file.writelines(f"INFO  line {number} {'.' * 100}\n" for number in range(5000))
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("l")
        assert isinstance(app.screen, RunDetailScreen)
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
