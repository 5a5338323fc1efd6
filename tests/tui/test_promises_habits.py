"""Habits of the whole screen: keys of one's own, the palette, themes, text selection, and copying to the terminal."""

from __future__ import annotations

import asyncio
import base64
import importlib
import os
import pkgutil
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.app import App
from textual.binding import Binding
from textual.command import CommandPalette
from textual.dom import DOMNode
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.widgets import Input

import qad_tui
from qad_tui import settings
from qad_tui.app import QadApp
from qad_tui.run_order import SORT_KEYS
from qad_tui.screens.help import HelpScreen
from qad_tui.screens.queue import QueueScreen
from qad_tui.screens.run_detail import RunDetailScreen
from qad_tui.settings import SETTINGS_NAME, load_settings
from qad_tui.widgets.log_view import LogView
from qad_tui.widgets.status_card import StatusCard
from tests.tui.conftest import POLL_SECONDS, WIDE, Clock, card_says, list_is_filled, wait_until
from tests.tui.fake_slurm import FakeSlurm
from tests.tui.made_fleet import FakeRun


@pytest.fixture
def home(root: Path, tmp_path: Path) -> Path:
    """Folder of settings.toml."""
    folder = tmp_path / "qad-tui-home"
    folder.mkdir()
    return folder


def make_app(root: Path, tmp_path: Path, clock: Clock) -> QadApp:
    return QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=FakeSlurm(tmp_path / "bin").client())


def text_of(app: QadApp) -> str:
    """What stands on the screen, line by line."""
    strips = app.screen._compositor.render_strips(app.size)  # pyright: ignore[reportPrivateUsage]
    return "\n".join(strip.text for strip in strips)


async def test_keys_of_one_s_own_replace_ours_and_stand_in_the_help(
    root: Path, home: Path, tmp_path: Path, clock: Clock, fleet: dict[str, FakeRun]
) -> None:
    (home / SETTINGS_NAME).write_text('[keys]\n"runs.sort" = "o"\n"table.next" = "t,down"\n"log.search" = "f"\n')
    app = make_app(root, tmp_path, clock)
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        await pilot.press("s", "j")
        assert (table.sorted_by, table.cursor_row) == ("", 0)
        await pilot.press("t")
        assert table.cursor_row == 1
        await pilot.press("down", "o")
        assert (table.sorted_by, table.chosen is not None) == ("state", True)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await wait_until(pilot, lambda: re.search(r"\bo +Sort\b", text_of(app)) is not None)
        assert re.search(r"\bt ↓ +Next row", text_of(app)) and not re.search(r"\bj\b.* Next row", text_of(app))
        await pilot.press("escape", "l")
        await wait_until(pilot, lambda: isinstance(app.focused, LogView))
        await pilot.press("slash")
        assert isinstance(app.focused, LogView)
        await pilot.press("f")
        await wait_until(pilot, lambda: isinstance(app.focused, Input))


def bindings_of_ours() -> Iterator[tuple[type[DOMNode], Binding]]:
    """Every binding that a screen, pane or widget of qad_tui declares."""
    seen: set[type[DOMNode]] = set()
    for module in pkgutil.walk_packages(qad_tui.__path__, "qad_tui."):
        if module.name.endswith("__main__"):
            continue
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and issubclass(found, (App, DOMNode)) and found.__module__ == module.name:
                seen.add(found)
    for owner in seen:
        for binding in vars(owner).get("BINDINGS", ()):
            assert isinstance(binding, Binding)
            yield owner, binding


def test_every_key_has_an_id_by_which_it_can_be_changed_and_a_description() -> None:
    declared = list(bindings_of_ours())
    assert len(declared) > 100
    assert not [(owner, binding.key) for owner, binding in declared if not binding.id or not binding.description]


async def test_the_palette_knows_the_places_and_the_keys_of_the_screen(
    root: Path, tmp_path: Path, clock: Clock, fleet: dict[str, FakeRun]
) -> None:
    app = make_app(root, tmp_path, clock)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        titles = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Go to Queue", "Go to System", "Sort", "Filter", "Theme"} <= titles
        await pilot.press("colon")
        await wait_until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press(*"Go to Queue")
        await wait_until(
            pilot, lambda: isinstance(app.screen, CommandPalette) and app.screen.query_one(Input).value != ""
        )
        await pilot.pause(0.5)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, QueueScreen))


async def test_a_theme_is_kept_for_the_next_time_and_one_that_is_none_is_named(
    root: Path, home: Path, tmp_path: Path, clock: Clock
) -> None:
    app = make_app(root, tmp_path, clock)
    async with app.run_test() as pilot:
        app.theme = "nord"
        await wait_until(pilot, lambda: load_settings().state.theme == "nord")
    (home / SETTINGS_NAME).write_text('theme = "no such theme"\n')
    again = QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=app.slurm_client)
    async with again.run_test() as pilot:
        await wait_until(pilot, lambda: any("no such theme" in problem for problem in again.settings.problems))
    (home / SETTINGS_NAME).unlink()
    third = QadApp([root], now=clock, poll_seconds=POLL_SECONDS, client=app.slurm_client)
    async with third.run_test():
        assert third.theme == "nord"


async def test_a_home_that_hangs_holds_up_no_key_and_the_last_choice_is_written(
    root: Path, tmp_path: Path, clock: Clock, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, released = os.replace, threading.Event()

    def hang(source: Path, target: Path) -> None:
        released.wait()
        replace(source, target)

    app = make_app(root, tmp_path, clock)
    async with app.run_test(size=WIDE) as pilot:
        table = await list_is_filled(app, pilot)
        monkeypatch.setattr(settings.os, "replace", hang)
        await asyncio.wait_for(pilot.press("s", "s", "g", "j"), timeout=5)
        assert (table.sorted_by, table.cursor_row) == (SORT_KEYS[2], 1)
        released.set()
        await wait_until(pilot, lambda: load_settings().state.sort_by == SORT_KEYS[2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('poll_seconds = "often"\n', "poll_seconds"),
        ("squeue_seconds = 1\n", "squeue_seconds"),
        ("no = toml = here\n", "cannot be read"),
        ('nonsense = "x"\n', "nonsense"),
    ],
)
async def test_settings_that_cannot_be_taken_are_named_above_the_list(
    root: Path, home: Path, tmp_path: Path, clock: Clock, fleet: dict[str, FakeRun], text: str, said: str
) -> None:
    (home / SETTINGS_NAME).write_text(text)
    app = make_app(root, tmp_path, clock)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        line = app.screen.query_one("#problems")
        await wait_until(pilot, lambda: line.display and said in str(line.render()))


def sent_by(app: QadApp, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written to the terminal from now on."""
    assert app._driver is not None  # pyright: ignore[reportPrivateUsage]
    sent: list[str] = []
    monkeypatch.setattr(app._driver, "write", sent.append)  # pyright: ignore[reportPrivateUsage]
    return sent


def osc_52(text: str) -> str:
    """The sequence that puts text into the clipboard of a terminal, however far away that is."""
    return f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\a"


async def drag(pilot: Pilot[None], begin: Offset, end: Offset) -> None:
    """Select by the mouse."""
    await pilot.mouse_down(offset=begin)
    await pilot.hover(offset=end)
    await pilot.mouse_up(offset=end)
    await pilot.pause()


async def test_words_that_the_mouse_selects_are_copied_by_osc_52(
    root: Path, tmp_path: Path, clock: Clock, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(root, tmp_path, clock)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("enter")
        await card_says(app, pilot, "step 320 of 600")
        card = app.screen.query(StatusCard).first()
        at = card.content_region.offset
        await drag(pilot, at, at + Offset(12, 0))
        selected = app.screen.get_selected_text()
        assert selected == "SmolLM2-135M-"
        sent = sent_by(app, monkeypatch)
        await pilot.press("ctrl+c")
        assert osc_52(selected) in sent


async def test_the_command_of_a_run_is_copied_by_osc_52(
    root: Path, tmp_path: Path, clock: Clock, fleet: dict[str, FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(root, tmp_path, clock)
    async with app.run_test(size=WIDE) as pilot:
        await list_is_filled(app, pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RunDetailScreen))
        await card_says(app, pilot, "step 320 of 600")
        sent = sent_by(app, monkeypatch)
        await pilot.press("Y")
        await wait_until(pilot, lambda: any(osc_52(app.clipboard) in each for each in sent))
        assert app.clipboard == f"qad_core train {fleet['running'].folder.config}"
