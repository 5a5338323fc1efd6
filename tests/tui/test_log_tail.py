from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qad_tui import log_tail
from qad_tui.log_tail import MAX_LINE_BYTES, TAIL_BYTES, LogTail, decode_log_line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.log"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_file_of_one_gibibyte_opens_at_its_end_within_little_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)
    append(path, b"\n" + b"".join(b"step %d\n" % step for step in range(100)))
    tracemalloc.start()
    window = LogTail(path).poll()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert window.lines == tuple(f"step {step}" for step in range(100))
    assert not window.at_start
    assert peak < 8 * TAIL_BYTES


def test_new_lines_are_added_and_a_poll_without_news_returns_the_same_window(path: Path) -> None:
    append(path, b"one\n")
    tail = LogTail(path)
    first = tail.poll()
    assert tail.poll() is first
    append(path, b"two\n")
    assert tail.poll().lines == ("one", "two")


def test_a_half_line_is_shown_once_and_completed_in_place(path: Path) -> None:
    append(path, "début é".encode()[:-1])
    tail = LogTail(path)
    assert tail.poll().lines == ("début �",)
    append(path, "é".encode()[-1:] + b" fin\nnext\n")
    assert tail.poll().lines == ("début é fin", "next")


def test_a_line_of_ten_megabytes_is_cut_and_its_rest_counted(path: Path) -> None:
    append(path, b"before\n")
    tail = LogTail(path)
    tail.poll()
    for _ in range(10):
        append(path, b"x" * 1_000_000)
        tail.poll()
    append(path, b"\nafter\n")
    lines = tail.poll().lines
    assert lines[0] == "before" and lines[2] == "after"
    assert lines[1] == "x" * MAX_LINE_BYTES + f" … {10_000_000 - MAX_LINE_BYTES:,} more bytes"


def test_a_truncated_file_is_read_anew_only_at_the_second_look(path: Path) -> None:
    append(path, b"one\ntwo\nthree\n")
    tail = LogTail(path)
    before = tail.poll()
    path.write_bytes(b"new\n")
    assert tail.poll() is before
    after = tail.poll()
    assert after.lines == ("new",)
    assert after.generation != before.generation


def test_a_file_cut_and_grown_beyond_its_old_size_is_read_anew(path: Path) -> None:
    append(path, b"one\ntwo\n")
    tail = LogTail(path)
    tail.poll()
    path.write_bytes(b"other\nlines\nthan before\n")
    assert tail.poll().lines == ("other", "lines", "than before")


def test_a_replaced_file_is_read_anew_at_once(path: Path) -> None:
    append(path, b"old\n")
    tail = LogTail(path)
    tail.poll()
    replacement = path.with_suffix(".new")
    replacement.write_bytes(b"replaced\nby these\n")
    replacement.replace(path)
    assert tail.poll().lines == ("replaced", "by these")


def test_a_removed_file_keeps_its_last_lines_and_is_found_again(path: Path) -> None:
    append(path, b"last words\n")
    tail = LogTail(path)
    tail.poll()
    path.unlink()
    window = tail.poll()
    assert window.lines == ("last words",) and not window.exists
    append(path, b"back\n")
    assert tail.poll().lines == ("back",)


def test_a_file_that_is_not_there_yet_is_waited_for(path: Path) -> None:
    tail = LogTail(path)
    assert not tail.poll().exists
    append(path, b"here\n")
    assert tail.poll().lines == ("here",)


def test_older_lines_come_before_and_every_line_keeps_its_number(path: Path) -> None:
    lines = [f"line {number} {'.' * 90}" for number in range(8000)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tail = LogTail(path)
    window = tail.poll()
    newest = window.first_number + len(window.lines) - 1
    while not window.at_start:
        window = tail.read_older()
    assert list(window.lines) == lines
    assert window.first_number + len(window.lines) - 1 == newest


def test_the_oldest_lines_leave_when_there_are_too_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tail, "MAX_LINES", 3)
    append(path, b"a\nb\nc\n")
    tail = LogTail(path)
    tail.poll()
    append(path, b"d\ne\n")
    window = tail.poll()
    assert window.lines == ("c", "d", "e")
    assert window.first_number == 2 and not window.at_start


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\xff\xfe caf\xc3\xa9", "�� café"),
        (b"\x1b[31mERROR\x1b[0m \x1b]0;title\x07text", "ERROR text"),
        (b" 10%\r 50%\r100%\r", "100%"),
        (b"a\tb\x00\x07c", "a       bc"),
        (b"windows\r", "windows"),
    ],
)
def test_a_line_is_made_fit_for_a_terminal(raw: bytes, shown: str) -> None:
    assert decode_log_line(raw) == shown


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
    expected = [decode_log_line(raw) for raw in b"".join(chunks).split(b"\n")]
    if b"".join(chunks).endswith(b"\n") or not b"".join(chunks):
        expected.pop()
    assert list(tail.poll().lines) == expected
