from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qad_core.run.log_lines import BLOCK_BYTES, MAX_LINE_BYTES, shown_line
from qad_tui import log_tail
from qad_tui.log_tail import MOST_NEW_BYTES, LogTail
from qad_tui.log_window import LogWindow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.log"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def texts(window: LogWindow) -> list[str]:
    return [line.text for line in window.lines]


def write_steps(path: Path, count: int) -> list[str]:
    """A log of so many lines of 100 bytes."""
    lines = [f"step {number:>9} {'.' * 84}" for number in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def test_a_file_of_one_gibibyte_opens_at_its_end_within_little_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)
    append(path, b"\n" + b"".join(b"step %d\n" % step for step in range(100)))
    tracemalloc.start()
    window = LogTail(path).poll()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts(window) == [f"step {step}" for step in range(100)]
    assert not window.at_start and window.at_end and window.first_number is None
    assert peak < 8 * BLOCK_BYTES


def test_new_lines_are_added_and_a_poll_without_news_returns_the_same_window(path: Path) -> None:
    append(path, b"one\n")
    tail = LogTail(path)
    first = tail.poll()
    assert tail.poll() is first
    append(path, b"two\n")
    assert texts(tail.poll()) == ["one", "two"]


def test_a_half_line_is_shown_once_and_completed_in_place(path: Path) -> None:
    append(path, "début é".encode()[:-1])
    tail = LogTail(path)
    assert texts(tail.poll()) == ["début �"]
    append(path, "é".encode()[-1:] + b" fin\nnext\n")
    assert texts(tail.poll()) == ["début é fin", "next"]


def test_a_line_of_ten_megabytes_is_cut_and_its_rest_counted(path: Path) -> None:
    append(path, b"before\n")
    tail = LogTail(path)
    tail.poll()
    for _ in range(10):
        append(path, b"x" * 1_000_000)
        tail.poll()
    append(path, b"\nafter\n")
    cut = "x" * MAX_LINE_BYTES + f" … {10_000_000 - MAX_LINE_BYTES:,} more bytes"
    assert texts(tail.poll()) == ["before", cut, "after"]
    another = LogTail(path)
    assert texts(another.poll()) == ["after"]
    assert texts(another.read_older()) == [cut, "after"]
    assert texts(another.read_older()) == ["before", cut, "after"]
    assert texts(another.go_to(5_000_000)) == ["before", cut, "after"]


def test_a_truncated_file_is_read_anew_only_at_the_second_look(path: Path) -> None:
    append(path, b"one\ntwo\nthree\n")
    tail = LogTail(path)
    before = tail.poll()
    path.write_bytes(b"new\n")
    assert tail.poll() is before
    after = tail.poll()
    assert texts(after) == ["new"]
    assert not after.is_of_file_of(before)


def test_a_file_cut_and_grown_beyond_its_old_size_is_read_anew(path: Path) -> None:
    append(path, b"one\ntwo\n")
    tail = LogTail(path)
    tail.poll()
    path.write_bytes(b"other\nlines\nthan before\n")
    assert texts(tail.poll()) == ["other", "lines", "than before"]


def test_a_replaced_file_is_read_anew_at_once(path: Path) -> None:
    append(path, b"old\n")
    tail = LogTail(path)
    tail.poll()
    replacement = path.with_suffix(".new")
    replacement.write_bytes(b"replaced\nby these\n")
    replacement.replace(path)
    assert texts(tail.poll()) == ["replaced", "by these"]


@pytest.mark.parametrize("step", [LogTail.poll, LogTail.go_to_end, LogTail.read_older, LogTail.read_newer])
def test_a_removed_file_keeps_its_last_lines_and_is_found_again(
    path: Path, step: Callable[[LogTail], LogWindow]
) -> None:
    append(path, b"last words\n")
    tail = LogTail(path)
    tail.poll()
    path.unlink()
    window = step(tail)
    assert texts(window) == ["last words"] and not window.exists
    append(path, b"back\n")
    assert texts(step(tail)) == ["back"] and tail.window.exists


def test_a_file_that_is_not_there_yet_is_waited_for(path: Path) -> None:
    tail = LogTail(path)
    assert not tail.poll().exists
    append(path, b"here\n")
    assert texts(tail.poll()) == ["here"]


def test_older_lines_come_before_until_their_numbers_are_known(path: Path) -> None:
    lines = write_steps(path, 8000)
    tail = LogTail(path)
    window = tail.poll()
    assert window.first_number is None
    while not window.at_start:
        window = tail.read_older()
    assert texts(window) == lines and window.first_number == 1


def test_every_part_of_a_file_can_be_gone_to_and_left_in_both_directions(path: Path) -> None:
    lines = write_steps(path, 100_000)
    tail = LogTail(path)
    tail.poll()
    start = tail.go_to(0)
    assert texts(start)[:2] == lines[:2] and start.first_number == 1 and not start.at_end
    middle = tail.go_to(5_000_050)
    assert middle.lines[0].offset < 5_000_000 < middle.lines[-1].offset
    assert any(line.offset == 5_000_000 and line.text == lines[50_000] for line in middle.lines)
    more = tail.read_older()
    assert more.lines[0].offset < middle.lines[0].offset and more.lines[-1] == middle.lines[-1]
    more = tail.read_newer()
    assert more.lines[-1].offset > middle.lines[-1].offset
    end = tail.go_to_end()
    assert texts(end)[-1] == lines[-1] and end.at_end


def test_the_lines_at_the_far_end_leave_when_there_are_too_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tail, "MOST_WEIGHT", 2 * BLOCK_BYTES)
    lines = write_steps(path, 20_000)
    tail = LogTail(path)
    tail.go_to(0)
    tail.go_to(0)
    for _ in range(3):
        window = tail.read_newer()
    assert texts(window) == lines[window.first_number - 1 :][: len(window.lines)]  # type: ignore[operator]
    assert not window.at_start and not window.at_end
    for _ in range(9):
        window = tail.read_older()
    assert texts(window) == lines[: len(window.lines)] and window.first_number == 1
    assert len(window.lines) * 279 <= 2 * BLOCK_BYTES
    while not window.at_end:
        window = tail.read_newer()
    assert texts(window) == lines[-len(window.lines) :]
    append(path, b"and on\n")
    assert texts(tail.poll())[-1] == "and on"


def test_a_reader_who_has_stopped_to_read_loses_no_line_to_new_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "MOST_WEIGHT", 2000)
    append(path, b"first\nsecond\n")
    tail = LogTail(path)
    tail.poll()
    append(path, b"third\n")
    assert texts(tail.poll(following=False)) == ["first", "second", "third"]
    append(path, b"many\n" * 50)
    paused = tail.poll(following=False)
    assert texts(paused)[:4] == ["first", "second", "third", "many"]
    assert len(paused.lines) < 15 and not paused.at_end
    append(path, b"more\n")
    assert tail.poll(following=False).lines == paused.lines
    assert tail.window.size == path.stat().st_size
    assert texts(tail.go_to_end())[-2:] == ["many", "more"]


def test_of_a_file_that_grows_too_fast_the_end_is_shown(path: Path) -> None:
    append(path, b"first\n")
    tail = LogTail(path)
    tail.poll()
    append(path, b"x" * 99 + b"\n")
    append(path, (b"y" * 99 + b"\n") * (MOST_NEW_BYTES // 100 + 1) + b"newest\n")
    window = tail.poll()
    assert texts(window)[-1] == "newest" and len(window.lines) < 4000 and window.at_end


def test_a_block_of_empty_lines_is_taken_in_parts(path: Path) -> None:
    append(path, b"\n" * 100_000 + b"end\n")
    tail = LogTail(path)
    window = tail.poll()
    assert texts(window)[-1] == "end" and len(window.lines) < 30_000
    older = tail.read_older()
    assert older.lines[0].offset < window.lines[0].offset


@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.binary(max_size=40), max_size=8))
def test_lines_do_not_depend_on_how_they_were_written(
    chunks: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "train.log"
    path.touch()
    tail = LogTail(path)
    for chunk in chunks:
        append(path, chunk)
        tail.poll()
    data = b"".join(chunks)
    expected = [shown_line(raw) for raw in data.split(b"\n")]
    if data.endswith(b"\n") or not data:
        expected.pop()
    window = tail.poll()
    assert texts(window) == expected
    assert all(line.offset == 0 or data[line.offset - 1 : line.offset] == b"\n" for line in window.lines)
