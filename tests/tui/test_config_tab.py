"""The Config tab: values with where they came from, and in what another run differs."""

from __future__ import annotations

from textual.pilot import Pilot

from qad_tui.app import QadApp
from qad_tui.panes.config import ConfigPane
from qad_tui.screens.pick_run import PickRunScreen
from qad_tui.widgets.config_table import ConfigTable
from tests.tui.conftest import WIDE, list_is_filled, wait_until, words
from tests.tui.made_fleet import FakeRun, write_config


async def open_config(app: QadApp, pilot: Pilot[None]) -> ConfigTable:
    await list_is_filled(app, pilot)
    await pilot.press("enter", "i")
    table = app.screen.query_one(ConfigTable)
    await wait_until(pilot, lambda: bool(table.rows))
    return table


async def test_each_value_has_where_it_came_from(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    write_config(fleet["running"], "train.learning_rate=2e-5")
    async with app.run_test(size=WIDE) as pilot:
        table = await open_config(app, pilot)
        line = next(line for line in table.rows if line.key == "train.learning_rate")
        assert (line.value, line.origin) == ("2e-5", "command line")
        assert next(line for line in table.rows if line.key == "model.name").origin.endswith("tiny.yaml")
        assert app.focused is table


async def test_the_search_and_only_what_was_changed(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    write_config(fleet["running"], "train.learning_rate=2e-5")
    async with app.run_test(size=WIDE) as pilot:
        table = await open_config(app, pilot)
        whole = len(table.rows)
        await pilot.press("u")
        assert 0 < len(table.rows) < whole and all(line.is_changed for line in table.rows)
        await pilot.press("slash", *"command line", "enter")
        assert [line.key for line in table.rows] == ["train.learning_rate"]
        await pilot.press("slash", *"x", "enter")
        assert "No key is as asked" in words(app, "#config-empty")
        await pilot.press("escape", "u")
        assert len(table.rows) == whole


async def test_another_run_is_laid_beside(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    write_config(fleet["running"], "train.learning_rate=2e-5")
    write_config(fleet["done"], "train.learning_rate=3e-5", "tag=other")
    async with app.run_test(size=WIDE) as pilot:
        table = await open_config(app, pilot)
        await pilot.press("d")
        assert isinstance(app.screen, PickRunScreen)
        await pilot.press(*"-qat", "enter")
        await wait_until(pilot, lambda: len(table.rows) == 2)
        assert {line.key: (line.value, line.other) for line in table.rows} == {
            "tag": ("", "other"),
            "train.learning_rate": ("2e-5", "3e-5"),
        }
        await pilot.press("e")
        assert len(table.rows) > 50
        await pilot.press("escape")
        await wait_until(pilot, lambda: all(line.other is None for line in table.rows))
        assert app.screen.query(ConfigPane)


async def test_a_config_that_changes_is_read_again(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    write_config(fleet["running"], "train.learning_rate=2e-5")
    async with app.run_test(size=WIDE) as pilot:
        table = await open_config(app, pilot)
        write_config(fleet["running"], "train.learning_rate=4e-5")
        await wait_until(pilot, lambda: any(line.value == "4e-5" for line in table.rows))


async def test_a_config_whose_file_has_gone_stays_as_it_was_read(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    write_config(fleet["running"], "train.learning_rate=2e-5")
    async with app.run_test(size=WIDE) as pilot:
        table = await open_config(app, pilot)
        shown = len(table.rows)
        fleet["running"].folder.config.unlink()
        await wait_until(pilot, lambda: "as read last: config.yaml is gone" in words(app, "#config-words"))
        assert len(table.rows) == shown > 0
        write_config(fleet["running"], "train.learning_rate=4e-5")
        await wait_until(pilot, lambda: any(line.value == "4e-5" for line in table.rows))
        assert "gone" not in words(app, "#config-words")


async def test_a_run_without_a_config_says_why_there_is_none(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    fleet["running"].folder.config.unlink()
    fleet["evaluating"].folder.config.write_text("train: [")
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("enter", "i")
        await wait_until(pilot, lambda: "has no config.yaml" in words(app, "#config-empty"))
        await pilot.press("escape", "j", "enter", "i")
        await wait_until(pilot, lambda: "cannot be shown" in words(app, "#config-empty"))
