"""The end of a run is told once, to whom asked for it, and never for what had ended before."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qad_tui.app import QadApp
from qad_tui.fleet_model import FleetModel
from qad_tui.notifications import Ending, EndingWatch, terminal_sequence
from qad_tui.settings import Settings, SettingsStore, State
from tests.tui.conftest import Clock, list_is_filled, wait_until
from tests.tui.made_fleet import FakeRun


def make_app(root: Path, clock: Clock, tmp_path: Path, settings: Settings | None = None) -> QadApp:
    store = SettingsStore(tmp_path / "home", settings or Settings(), State())
    return QadApp([root], now=clock, poll_seconds=0.1, settings=store)


def end(run: FakeRun) -> None:
    run.set_status("done", updated=time.time(), exit_code=0)


def sent_to(app: QadApp, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(app, "write_to_terminal", sent.append)
    return sent


def test_an_end_is_told_once_and_old_ones_not_at_all(fleet: dict[str, FakeRun], root: Path, clock: Clock) -> None:
    model, watch = FleetModel([root], clock=clock), EndingWatch()
    assert not watch.look(model.look())
    end(fleet["running"])
    (ending,) = watch.look(model.look())
    assert (ending.path, ending.state, ending.is_bad) == (fleet["running"].folder.path, "done", False)
    assert "of the KL gap won back" in ending.words
    assert not watch.look(model.look())
    fleet["running"].set_status("training", updated=time.time())
    assert not watch.look(model.look())
    end(fleet["running"])
    assert not watch.look(model.look()), "the same start has ended once only"


def test_a_failure_says_why(fleet: dict[str, FakeRun], root: Path, clock: Clock) -> None:
    model, watch = FleetModel([root], clock=clock), EndingWatch()
    watch.look(model.look())
    fleet["running"].set_status("failed", updated=time.time(), error="The loss was not finite.")
    (ending,) = watch.look(model.look())
    assert ending.is_bad and ending.title.startswith("✗ ") and "The loss was not finite." in ending.words


def test_the_sequence_holds_nothing_that_a_terminal_would_obey() -> None:
    sequence = terminal_sequence(Ending(Path("runs/a"), "failed", "evil \x1b[2J\a text"))
    assert sequence.startswith("\a\x1b]9;") and sequence.endswith("\x1b\\")
    assert "\x1b" not in sequence[4:-2] and "\a" not in sequence[1:]


async def test_nothing_is_told_unless_asked_for(
    root: Path, fleet: dict[str, FakeRun], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(root, clock, tmp_path)
    sent = sent_to(app, monkeypatch)
    async with app.run_test() as pilot:
        table = await list_is_filled(app, pilot)
        end(fleet["running"])
        await wait_until(pilot, lambda: sum(row.state == "done" for row in table.rows) == 2)
        assert not sent and not list(app._notifications)  # pyright: ignore[reportPrivateUsage]


async def test_the_terminal_is_told(
    root: Path, fleet: dict[str, FakeRun], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(root, clock, tmp_path, Settings(notify="terminal"))
    sent = sent_to(app, monkeypatch)
    async with app.run_test() as pilot:
        await list_is_filled(app, pilot)
        end(fleet["running"])
        await wait_until(pilot, lambda: bool(sent))
        assert "SmolLM2" in sent[0]
        assert len(list(app._notifications)) == 1  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("answers", [True, False], ids=["with notify-send", "without an answer"])
async def test_the_desktop_is_told_and_where_it_does_not_answer_the_terminal(
    root: Path, fleet: dict[str, FakeRun], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    command, said = tmp_path / "bin" / "notify-send", tmp_path / "said"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" > "{said}"\nexit {0 if answers else 1}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    app = make_app(root, clock, tmp_path, Settings(notify="desktop"))
    sent = sent_to(app, monkeypatch)
    async with app.run_test() as pilot:
        await list_is_filled(app, pilot)
        end(fleet["running"])
        await wait_until(pilot, said.exists)
        await wait_until(pilot, lambda: bool(sent) != answers)
        assert "--urgency=normal" in said.read_text()
