from __future__ import annotations

import re
from pathlib import Path

import pytest

from qad_core.run.log_lines import BLOCK_BYTES, MAX_LINE_BYTES, LineBlock
from qad_core.run.log_search import Found, LogPattern, matching_lines, search_log
from qad_core.run.log_signs import ErrorLines, Sign, sign_of_line, signs_of_lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Five blocks of steps; the needle is in two lines that are blocks apart."""
    path = tmp_path / "train.log"
    lines = [f"INFO  step {number}  loss 0.{number % 997:03d}" for number in range(BLOCK_BYTES // 5)]
    lines[1000] += "  Needle é"
    lines[-1000] += "  needle é"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def line_at(path: Path, found: Found) -> str:
    assert found.offset is not None
    with path.open("rb") as file:
        file.seek(found.offset)
        return file.readline().decode().strip()


def behind(path: Path, offset: int) -> int:
    """Offset of the next line."""
    with path.open("rb") as file:
        file.seek(offset)
        file.readline()
        return file.tell()


@pytest.mark.parametrize("words", ["needle", "NEEDLE", r"need(le)?\b", "Needle É", r"loss .*é$"])
def test_a_pattern_is_found_in_both_directions_and_around_the_end(path: Path, words: str) -> None:
    pattern = LogPattern(words)
    first = search_log(path, pattern, 0, forward=True)
    assert first.offset is not None and not first.wrapped
    assert "step 1000 " in line_at(path, first)
    second = search_log(path, pattern, behind(path, first.offset), forward=True)
    assert second.offset is not None and second.offset > first.offset + 2 * BLOCK_BYTES
    again = search_log(path, pattern, behind(path, second.offset), forward=True)
    assert (again.offset, again.wrapped) == (first.offset, True)
    size = path.stat().st_size
    assert search_log(path, pattern, size, forward=False) == Found(second.offset)
    assert search_log(path, pattern, second.offset, forward=False) == Found(first.offset)
    assert search_log(path, pattern, first.offset, forward=False) == Found(second.offset, wrapped=True)


@pytest.mark.parametrize(
    "words",
    ["^STEP 7$", r"L[O]SS\b", r"\S+ 7", r"[^x]7$", r"(?:q|STEP)\s7", r"\x53tep", r"step \d$", r"x*", r"A|EP 7", "S.+7"],
)
def test_every_expression_finds_the_lines_that_python_finds(tmp_path: Path, words: str) -> None:
    path = tmp_path / "train.log"
    lines = ["Step 7", "loss", "step", "7", "no LOSS here", "", "steps 77", "x Step 7 y"]
    path.write_text("\n".join(lines))
    found = [line.text for line in matching_lines(path, LogPattern(words))]
    assert found == [
        line for line in lines if any(re.finditer(words, line, re.IGNORECASE)) and LogPattern(words).spans(line)
    ]


def test_what_is_nowhere_is_not_found_and_the_search_tells_how_far_it_is(path: Path) -> None:
    shares: list[float] = []
    found = search_log(path, LogPattern("haystack"), 1000, forward=True, watch=lambda share: not shares.append(share))
    assert found == Found(None)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1, abs=0.01)


def test_a_search_can_be_stopped(path: Path) -> None:
    assert search_log(path, LogPattern("haystack"), 0, forward=True, watch=lambda _: False) == Found(None, stopped=True)


def test_what_is_no_regular_expression_is_plain_text_and_why_is_said() -> None:
    pattern = LogPattern("loss [")
    assert pattern.spans("KD LOSS [nats]") == [(3, 9)]
    assert pattern.note.startswith("as plain text: ")
    assert LogPattern("(a+)+b").note == "as plain text: a repeat of a repeat would take for ever"
    assert not LogPattern(r"loss \d+").note


def test_the_search_sees_what_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    long = b"x" * 2 * MAX_LINE_BYTES + b"hidden\n"
    path.write_bytes(long + b"\x1b[31mRE\x1b[0mD\n hidden 10%\r100%\nlast")
    red = search_log(path, LogPattern("red"), 0, forward=True)
    assert red.offset == len(long)
    assert search_log(path, LogPattern("hidden"), 0, forward=True) == Found(None)
    assert search_log(path, LogPattern("100%"), path.stat().st_size, forward=False).offset is not None


def test_a_line_of_many_blocks_is_searched_in_its_shown_part(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"first\nneedle " + b"x" * 3 * BLOCK_BYTES + b"needle\nlast\n")
    for words in ("needle", "nee.le"):
        assert search_log(path, LogPattern(words), 0, forward=True).offset == 6
        assert search_log(path, LogPattern(words), path.stat().st_size, forward=False).offset == 6


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("INFO  step 3  loss 0.1", ""),
        ("ERROR  DivergedError: the loss was not finite", "error"),
        ("Traceback (most recent call last):", "error"),
        ("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB", "error"),
        ("[rank3]: torch.OutOfMemoryError: CUDA out of memory", "error"),
        ("slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***", "error"),
        ("[rank0]:[E1125 12:00:00.1 ProcessGroupNCCL.cpp:607] Watchdog caught collective operation timeout", "error"),
        ("2026-11-25 12:00:00 INFO errors so far: 0", ""),
        ("2026-11-25 12:00:00,123 WARNING retrying after an error", "warning"),
        ("W1125 12:00:00.123 torch/distributed/run.py:1] warned", "warning"),
        ("/x/y.py:3: UserWarning: an Error is likely", "warning"),
        ("error_rate 0.1 memory 2.5 GiB", ""),
    ],
)
def test_a_line_is_signed_by_what_it_says(text: str, sign: Sign) -> None:
    assert sign_of_line(text) == sign
    assert signs_of_lines(["INFO  step 1", text, ""]) == ["", sign, ""]
    is_error = list(ErrorLines().offsets_in(LineBlock(10, 10 + len(text), text.encode()))) == [10]
    assert is_error == (sign == "error")


def test_the_first_error_is_found_however_much_the_lines_repeat(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"INFO  step 7  404 things\nINFO  step 7  429 Client Error\nERROR  last\n")
    found = search_log(path, ErrorLines(), 0, forward=True)
    assert line_at(path, found) == "INFO  step 7  429 Client Error"
