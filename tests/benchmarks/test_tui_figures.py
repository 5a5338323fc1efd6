"""Each figure of the screen is measured once, small, so that it goes on working; its numbers mean nothing here."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from benchmarks import tui_data_table
from benchmarks.figure import Figure
from benchmarks.tui_curves import measure_curves
from benchmarks.tui_fleet import SMALL, measure_fleet
from benchmarks.tui_log import measure_log
from benchmarks.tui_peers import LeftOut, Peer, with_peer
from benchmarks.tui_queue import QUEUE_SCREENS, made_answer, measure_queue
from benchmarks.tui_screen import open_screen, rows_of
from qad_core.slurm.records import parse_queue


def names(figure: Figure) -> str:
    return "\n".join(row[0] for row in figure.rows)


def test_the_fleets_keys_are_answered_while_squeue_hangs_beside_a_data_table() -> None:
    figure = measure_fleet(SMALL)
    for program in ("qad_tui", "data_table"):
        costs = figure.data[program]
        assert (len(costs["frames"]), len(costs["keys"])) == (SMALL.frames, SMALL.keys)
        assert min(*costs["frames"], *costs["keys"], costs["cpu_share"], costs["mebibytes"]) > 0
    assert figure.columns[-1] == ">DataTable"


def test_curves_stand_beside_other_readers_and_another_chart() -> None:
    figure = measure_curves(steps=200, repeats=1, peers=False)
    for alternative in ("EventAccumulator", "tbparse", "terminalboard", "textual-plot"):
        assert alternative in names(figure)
    assert min(figure.data["qad-tui, metrics.jsonl"]["first"]) > 0


def test_the_log_stands_beside_other_viewers() -> None:
    figure = measure_log(megabytes=4, widget_lines=100, peers=False)
    for alternative in ("tail -n", "grep", "Log, the last 100 lines", "RichLog, the last 100 lines", "toolong"):
        assert alternative in names(figure)
    assert all(seconds > 0 for values in figure.data["seconds"].values() for seconds in values)


def test_the_queue_stands_beside_other_screens_and_names_those_left_out() -> None:
    figure = measure_queue(jobs=100, peers=False)
    for alternative in ("DataTable", "turm: left out", "sltop: left out", "slurmdeck: left out", "SlurmTUI: left out"):
        assert alternative in names(figure)
    assert figure.data["refresh_seconds"] > 0


def test_a_program_that_can_be_installed_is_measured_with_all_the_jobs_on_its_screen() -> None:
    jobs = parse_queue(made_answer(50))
    found = next(screen for screen in QUEUE_SCREENS if screen.package == "turm").measure([jobs, jobs], 5)
    if isinstance(found, LeftOut) and found.reason.startswith("pip cannot install"):
        pytest.skip(found.reason)
    assert not isinstance(found, LeftOut), found
    name, (seconds,) = found
    assert name.startswith("turm ")
    assert seconds >= 0


def test_a_program_that_cannot_be_installed_has_a_reason_and_no_number() -> None:
    def measure(peer: Peer) -> float:
        raise AssertionError("nothing was installed")

    found = with_peer("./no-such-folder", measure)
    assert isinstance(found, LeftOut)
    name, *numbers = found.row(4)
    assert name.startswith("./no-such-folder: left out, pip cannot install it here (")
    assert numbers == ["", "", ""]


def test_a_program_that_fails_has_its_last_words_and_no_number(tmp_path: Path) -> None:
    peer = Peer("python", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with open_screen([peer.program("python"), "-c", "raise SystemExit('no such thing')"], peer.environ) as screen:
        with pytest.raises(TimeoutError, match="no such thing"):
            screen.wait_for_end(20)


def test_only_the_row_that_has_the_mark_answers_a_key() -> None:
    printed = b"\x1b[4;1Hone\x1b[0m\x1b[5;1H\x1b[1m> two\x1b[5;60H \x1b[6;1Hthree"
    assert rows_of(b">", printed) == [5]
    assert rows_of(b"<", printed) == []


def test_the_data_tables_cursor_moves_by_a_key() -> None:
    argv = [sys.executable, "-m", "benchmarks.tui_data_table", "20", "2"]
    with open_screen(argv, {}) as screen:
        seen = screen.wait_until(lambda seen: tui_data_table.READY in seen, 20)
        row = rows_of(tui_data_table.CURSOR_MARK, seen)[-1]
        seconds = screen.answer(b"j", lambda seen: row + 1 in rows_of(tui_data_table.CURSOR_MARK, seen))
    assert 0 < seconds < math.inf
