"""Any key on any screen in any order, at any size of the terminal: the application lives and shows no traceback.

Seeded: a failure names the keys that led to it.
"""

from __future__ import annotations

import random
import time

import pytest

from qad_tui.app import QadApp
from tests.tui.conftest import Clock
from tests.tui.made_fleet import FakeRun

KEYS = (
    *"abcdefghijklmnoprstuvwxyzACDEFGHNRSUXYZ0123456789",
    *("slash", "question_mark", "colon", "plus", "minus", "left_square_bracket", "right_square_bracket", "comma"),
    *("enter", "enter", "escape", "escape", "space", "tab", "shift+tab", "backspace", "delete"),
    *("up", "down", "left", "right", "home", "end", "pageup", "pagedown"),
)
"""All but those that quit."""
COMMANDS_THAT_LEAVE = ("action_quit", "action_suspend_process")
WIDTHS, HEIGHTS = (20, 40, 80, 120, 300), (5, 10, 24, 80)
SECONDS = 8.0


@pytest.mark.parametrize(("seed", "filled"), [(1, True), (2, False)])
async def test_no_row_of_keys_ends_it(
    seed: int, filled: bool, fleet: dict[str, FakeRun], app: QadApp, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in COMMANDS_THAT_LEAVE:  # the palette offers them
        monkeypatch.setattr(QadApp, name, _stay)
    if not filled:
        app = QadApp([fleet["done"].root / "empty"], now=clock, poll_seconds=0.1)
    chance = random.Random(seed)
    pressed: list[str] = []
    async with app.run_test(size=(120, 40)) as pilot:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            if chance.random() < 0.03:
                await pilot.resize_terminal(chance.choice(WIDTHS), chance.choice(HEIGHTS))
            pressed.append(chance.choice(KEYS))
            await pilot.press(pressed[-1])
            assert app.is_running, f"it has ended after {pressed[-12:]}"
        await pilot.press("escape", "escape", "escape")
        assert app.screen.size.width > 0


async def _stay(self: QadApp) -> None:
    """In place of leaving."""
