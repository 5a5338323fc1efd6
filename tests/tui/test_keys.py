"""Keys of one's own: their ids are listed, and those that there are not, or that clash, are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qad_tui.app import QadApp
from qad_tui.command import main
from qad_tui.keys import _TOGETHER, declared_keys, find_key_problems  # pyright: ignore[reportPrivateUsage]
from qad_tui.screens.help import HelpScreen
from qad_tui.settings import Settings, SettingsStore
from tests.tui.conftest import NARROW, POLL_SECONDS, WIDE, Clock, list_is_filled, wait_until, words
from tests.tui.made_fleet import FakeRun

ALONE = {"columns", "confirm", "filter", "help", "links", "log_choice", "log_search", "pick", "picker", "save", "start"}


def test_an_id_that_there_is_not_is_named_with_the_one_that_was_meant() -> None:
    (problem,) = find_key_problems({"runs.filtr": "f9"})
    assert "'runs.filtr'" in problem and "runs.filter is one" in problem and "qad-tui --keys" in problem


@pytest.mark.parametrize(
    ("wanted", "one", "other"),
    [
        ({"runs.compare": "c"}, "runs.compare", "runs.curves"),
        ({"runs.sort": "?"}, "app.help", "runs.sort"),
        ({"log.search": "f"}, "log.search", "run.fix"),
        ({"runs.sort": "f9, f8", "table.next": "f8"}, "runs.sort", "table.next"),
    ],
)
def test_two_actions_of_one_screen_with_one_key_are_both_named(wanted: dict[str, str], one: str, other: str) -> None:
    (problem,) = find_key_problems(wanted)
    assert one in problem and other in problem


def test_keys_that_change_places_and_keys_of_different_screens_do_not_clash() -> None:
    assert find_key_problems({"runs.compare": "c", "runs.curves": "d"}) == []
    assert find_key_problems({"queue.hold": "c", "chain.add": "n", "confirm.yes": "p"}) == []


def test_it_is_known_of_every_key_where_it_works() -> None:
    known = {"app", *ALONE}.union(*_TOGETHER)
    assert {key.place for key in declared_keys().values()} == known


def test_the_command_lists_every_id_with_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--keys"])
    said = capsys.readouterr().out
    assert re.search(r"^runs\.clone +n,C +Clone$", said, re.MULTILINE)
    assert len(said.splitlines()) == len(declared_keys())


async def test_wrong_keys_are_named_on_every_place(root: Path, clock: Clock, fleet: dict[str, FakeRun]) -> None:
    settings = SettingsStore(root / "home", Settings(keys={"runs.compare": "c", "no.such": "f9"}))
    app = QadApp([root], now=clock, poll_seconds=POLL_SECONDS, settings=settings)
    async with app.run_test(size=WIDE) as pilot:
        for place in ("1", "5", "3"):
            await pilot.press(place)
            await wait_until(pilot, lambda: "no.such" in words(app, "#problems"))
            assert "runs.curves" in words(app, "#problems") and app.screen.query_one("#problems").display


async def test_the_help_shows_the_ids_when_asked(app: QadApp, fleet: dict[str, FakeRun]) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "runs.sort" not in app.export_screenshot()
        await pilot.press("i")
        await wait_until(pilot, lambda: "runs.sort" in app.export_screenshot())
