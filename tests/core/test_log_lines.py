from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qad_core.run import log_lines
from qad_core.run.log_lines import (
    MAX_LINE_BYTES,
    LineAssembler,
    LineBlock,
    blocks_backward,
    blocks_forward,
    decode_log_line,
    shown_line,
    start_of_line,
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\xff\xfe caf\xc3\xa9", "�� café"),
        (b"\x1b[31mERROR\x1b[0m \x1b]0;title\x07text", "ERROR text"),
        (b" 10%\r 50%\r100%\r", "100%"),
        (b"a\tb\x00\x07c", "a       bc"),
        (b"windows\r", "windows"),
        (b"x" * (MAX_LINE_BYTES + 1234), "x" * MAX_LINE_BYTES + " … 1,234 more bytes"),
    ],
)
def test_a_line_is_made_fit_for_a_terminal(raw: bytes, shown: str) -> None:
    assert shown_line(raw) == shown


@given(pieces=st.lists(st.binary(max_size=12).map(lambda piece: piece.replace(b"\n", b"\r")), max_size=6))
def test_a_line_does_not_depend_on_the_pieces_it_comes_in(pieces: list[bytes]) -> None:
    line = LineAssembler()
    for piece in pieces:
        line.feed(piece)
    assert decode_log_line(line.kept, line.dropped) == shown_line(b"".join(pieces))


def test_a_progress_bar_of_many_megabytes_shows_its_last_state() -> None:
    line = LineAssembler()
    for percent in range(100):
        line.feed(b"%3d%% of the work is done\r" % percent * 4000)
    assert decode_log_line(line.kept, line.dropped) == " 99% of the work is done"


@settings(max_examples=80, deadline=None)
@given(data=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"x" * 30, b"\r"]), max_size=40).map(b"".join))
def test_blocks_of_both_directions_hold_every_line_once(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("log") / "train.log"
    path.write_bytes(data)
    expected: list[tuple[int, str]] = []
    at = 0
    for raw in data.removesuffix(b"\n").split(b"\n") if data else []:
        expected.append((at, shown_line(raw)))
        at += len(raw) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_lines, "BLOCK_BYTES", 16)
        descriptor = os.open(path, os.O_RDONLY)
        forward = [line for block in blocks_forward(descriptor, 0, len(data)) for line in _lines(block)]
        backward = [line for block in blocks_backward(descriptor, len(data)) for line in reversed(_lines(block))]
        for offset, _ in expected:
            assert start_of_line(descriptor, offset) == offset
        os.close(descriptor)
    assert forward == expected
    assert backward[::-1] == expected


def test_a_file_that_becomes_shorter_while_it_is_read_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"one\ntwo\n")
    with path.open("rb") as file:
        assert [block.data for block in blocks_forward(file.fileno(), 0, 1000)] == [b"one\ntwo"]


def _lines(block: LineBlock) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    at = block.offset
    for raw in block.lines:
        found.append((at, decode_log_line(raw, block.dropped) if block.dropped else shown_line(raw)))
        at += len(raw) + 1
    return found
