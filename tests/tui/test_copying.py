"""What can be taken from the screen: text under the mouse, and by `y` what a row is about."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot
from textual.widget import Widget

from qad_tui.app import QadApp
from qad_tui.screens.new_run import NewRunScreen
from qad_tui.widgets.config_form import ConfigForm
from tests.tui.conftest import NARROW, WIDE, list_is_filled, wait_until
from tests.tui.made_fleet import FakeRun


async def drag(pilot: Pilot[None], widget: Widget, start: tuple[int, int], end: tuple[int, int]) -> None:
    await pilot.hover(widget, offset=start)
    await pilot.mouse_down(widget, offset=start)
    await pilot.hover(widget, offset=end)
    await pilot.mouse_up(widget, offset=end)
    await pilot.pause()


async def test_text_of_a_table_can_be_selected_and_is_marked(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)
        shown = table.render_line(2).text
        await drag(pilot, table, (2, 2), (12, 3))
        selected = app.screen.get_selected_text()
        assert selected is not None and selected.splitlines()[0] == shown[2:].rstrip()
        assert table.render_line(3).text.startswith(selected.splitlines()[1])
        look = app.screen.get_component_rich_style("screen--selection")
        marked = [
            segment for segment in table.render_line(2) if segment.style and segment.style.bgcolor == look.bgcolor
        ]
        assert "".join(segment.text for segment in marked).strip() == shown[2:].strip()


async def test_text_of_the_form_can_be_selected_without_opening_a_field(app: QadApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("2")
        await wait_until(pilot, lambda: isinstance(app.screen, NewRunScreen) and bool(app.screen.query(ConfigForm)))
        form = app.screen.query_one(ConfigForm)
        await wait_until(pilot, lambda: len(form.rows) > 3)
        line = form.render_line(1).text
        await drag(pilot, form, (0, 1), (form.size.width - 2, 1))
        assert app.screen.get_selected_text() == line[: form.size.width - 2].rstrip()
        assert app.screen.focused is form


async def test_a_line_tells_its_place_only_under_the_mouse(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)

        def tells_place() -> bool:
            return any(segment.style is not None and segment.style.meta for segment in table.render_line(1))

        assert not tells_place()
        await pilot.hover(table, offset=(4, 1))
        assert tells_place()


async def test_y_copies_the_path_of_a_run(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("j", "y")
        assert app.clipboard == str(table.chosen_path) and Path(app.clipboard).is_dir()
