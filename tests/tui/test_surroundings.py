"""What is around the screen goes wrong: its settings, its terminal, the disk below it, the numbers of a run."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from qad_core.run.chart_axes import X_AXES
from qad_tui.app import QadApp
from qad_tui.chart_drawing import draw_chart
from qad_tui.charts import CurveOptions
from qad_tui.daemon_threads import DaemonThreads
from qad_tui.fleet_model import FleetModel
from qad_tui.run_follower import CurveFollower, CurvesWanted
from qad_tui.settings import HOME_VARIABLE, SETTINGS_NAME, STATE_NAME, load_settings
from tests.tui.conftest import Clock, list_is_filled, wait_until
from tests.tui.made_fleet import FakeRun

PATIENCE_SECONDS = 60
COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]")
WITHOUT_MEASURE = """\
{"step": 0, "time": -1e300, "eval/kl": 1e308, "eval/teacher_ce": -1e308}
{"step": 1, "time": NaN, "loss/kd": 1e308, "learning_rate": -1e-320, "memory_gib": 0, "consumed_tokens": -5}
{"step": 2, "time": 1e308, "loss/kd": -1e308, "learning_rate": 1e-321, "consumed_tokens": 9223372036854775807}
{"step": 9223372036854775806, "time": 5, "loss/kd": 0.5, "grad_norm": 5e-324}
"""


@pytest.mark.parametrize("lines", [WITHOUT_MEASURE, WITHOUT_MEASURE.splitlines()[-1] + "\n"])
@pytest.mark.parametrize("axis", X_AXES)
def test_numbers_without_measure_have_charts(tmp_path: Path, lines: str, axis: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    for log_scale in (False, True):
        follower = CurveFollower(tmp_path)
        follower.ask(CurvesWanted(80, None, CurveOptions(log_scale, axis, 0.6)))  # pyright: ignore[reportArgumentType]
        (*_, curves) = follower.serve()
        assert curves.charts
        assert all(draw_chart(chart, 80, 20, cursor=1.0).rows for chart in curves.charts.values())


def test_a_thread_that_hangs_takes_no_place_and_keeps_nobody_from_leaving() -> None:
    async def hang_and_leave() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(DaemonThreads())
        for _ in range(100):
            loop.run_in_executor(None, threading.Event().wait)
        return await loop.run_in_executor(None, str, "served")

    assert asyncio.run(hang_and_leave()) == "served"


async def test_no_name_of_a_run_is_a_command_to_the_terminal(root: Path, clock: Clock) -> None:
    for name in ("[bold]x[@click=quit]y", "\x1b[2J\x1b]0;title\x07", "two\nlines", "\u202ebackwards", "😀" * 50):
        FakeRun(root, name, 50, clock()).train(2)
    app = QadApp([root], now=clock, poll_seconds=0.1)
    async with app.run_test(size=(120, 40)) as pilot:
        await list_is_filled(app, pilot, 5)
        for keys in ("enter", "escape", "space", "C", "escape"):
            for _ in range(5):
                assert not COMMANDS.search(screen_text(app))
                await pilot.press("down")
            await pilot.press(keys)
        assert "[bold]x[@click=quit]y" in screen_text(app)


def screen_text(app: QadApp) -> str:
    """All that a terminal would be sent, but for the styles."""
    strips = app.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
    return "".join(segment.text for strip in strips for segment in strip)


async def test_a_disk_that_does_not_answer_is_said_in_the_bar(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FleetModel, "look", lambda *_: threading.Event().wait())
    app = QadApp([root], now=clock, poll_seconds=0.1)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: "looking for runs" in screen_text(app))
        clock.unix_time += 12
        await wait_until(pilot, lambda: "the disk has not answered for 12 s" in screen_text(app))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(root: Path, number: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    environ = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "qad_tui", str(root.resolve())],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
        start_new_session=True,
    )
    shown = b""
    while b"No runs yet" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(number)
    reader = threading.Thread(target=_read_all, args=(ours,), daemon=True)
    reader.start()
    assert process.wait(PATIENCE_SECONDS) == 128 + number
    assert termios.tcgetattr(theirs) == before


def _read_all(terminal: int) -> None:
    while os.read(terminal, 65536):
        pass


@pytest.mark.parametrize("text", ["a = [", "a = " + "[" * 5000, "poll_seconds = nan", "[keys]\n'app.quit' = 3"])
def test_settings_that_cannot_be_used_are_named_and_the_defaults_hold(tmp_path: Path, text: str) -> None:
    (tmp_path / SETTINGS_NAME).write_text(text, encoding="utf-8")
    (tmp_path / STATE_NAME).write_text("[" * 100_000, encoding="utf-8")
    store = load_settings({HOME_VARIABLE: str(tmp_path)})
    assert store.settings.poll_seconds == 1.0
    assert [problem.split(":")[0].split(" ")[0] for problem in store.problems] == [
        str(tmp_path / SETTINGS_NAME),
        str(tmp_path / STATE_NAME),
    ]


async def test_a_kept_order_by_a_column_that_is_none_is_the_usual_order(
    root: Path, fleet: dict[str, FakeRun], clock: Clock
) -> None:
    home = Path(os.environ[HOME_VARIABLE])
    home.mkdir()
    (home / STATE_NAME).write_text('{"sort_by": "none", "columns": ["none", "name"]}', encoding="utf-8")
    app = QadApp([root], now=clock, poll_seconds=0.1)
    async with app.run_test(size=(120, 40)) as pilot:
        table = await list_is_filled(app, pilot)
        assert (table.sorted_by, table.column_keys) == ("", ("name",))
