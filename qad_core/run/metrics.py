"""metrics.jsonl: one flushed JSON line a step or an evaluation, written by one process, read by many.

Owns the format. A NaN or an infinity is written as the string "nan", "inf" or "-inf", never dropped.
A reader goes on from a byte offset, holds a half-written last line back, and survives a file that
was cut (a resume drops the lines after its checkpoint).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, cast

Number = float | int | None
MetricsLine = dict[str, Number]

LARGEST_INTEGER = 2**63
"""No count of ours is as large; larger ones are not floats either."""
LARGEST = 1e100
"""Greater values are read as infinite: no sum and no product of two overflows."""
DECODED_BYTES = 2**18
"""So much is decoded by one call of C code, during which no other thread runs: a few milliseconds."""
TRAINING_KEYS = (
    "step", "time", "consumed_samples", "consumed_tokens", "loss/kd", "learning_rate",
    "grad_norm", "skipped", "step_ms", "tokens_per_s", "memory_gib",
)  # fmt: skip
EVALUATION_KEYS = (
    "step", "time", "eval/kl", "eval/ce", "eval/teacher_ce", "eval/perplexity",
    "eval/top1_agreement", "eval/tokens",
)  # fmt: skip


def is_evaluation(line: Mapping[str, Number]) -> bool:
    """Whether a line is an evaluation's rather than a step's; those of other scripts have no KL."""
    return "eval/kl" in line or "eval/ce" in line


class MetricsWriter:
    """Appends lines to metrics.jsonl, each flushed to the disk before `write` returns."""

    def __init__(self, path: Path, *, keep_through_step: int | None = None) -> None:
        """Open for appending; with `keep_through_step`, first drop lines of later steps.

        An evaluation of that very step is dropped as well when it was written after the checkpoint:
        the caller that resumes at step N writes evaluation N again only if it is missing, so
        evaluations of step N are kept.
        """
        if keep_through_step is not None and path.exists():
            _drop_lines_after(path, keep_through_step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Number]) -> None:
        """Write one line; floats that are not finite become strings."""
        self._file.write(encode_line(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class MetricsReader:
    """Reads new whole lines of a metrics.jsonl at each call, from where the last call stopped."""

    path: Path
    offset: int = 0
    bad_lines: int = 0
    """Lines that were not JSON objects; they are counted, not fatal."""
    _inode: int = field(default=-1, repr=False)

    def read_new(self, most_bytes: int | None = None) -> tuple[list[MetricsLine], bool]:
        """Return (new lines, restarted); `restarted` says that the file was cut or replaced and is read anew.

        With `most_bytes`, about so much is read, and at least one line where a whole one is there: call again until
        no line comes. Raises OSError.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return [], False
        restarted = self.offset > 0 and (stat.st_size < self.offset or stat.st_ino != self._inode)
        start = 0 if restarted else self.offset
        whole = b""
        if stat.st_size != start:
            with self.path.open("rb") as file:
                file.seek(start)
                whole = read_whole_lines(file, most_bytes)
        lines, bad_lines = decode_lines(whole)
        self.offset, self._inode = start + len(whole), stat.st_ino
        self.bad_lines = bad_lines + (0 if restarted else self.bad_lines)
        return lines, restarted


def read_metrics(path: Path) -> list[MetricsLine]:
    """All whole lines of a metrics.jsonl; an absent file is empty."""
    return MetricsReader(path).read_new()[0]


def read_whole_lines(file: BinaryIO, most_bytes: int | None = None) -> bytes:
    """Whole lines from where a file stands, or nothing; more than `most_bytes` only to reach the end of one line."""
    data = file.read(-1 if most_bytes is None else most_bytes)
    while most_bytes is not None and b"\n" not in data and (more := file.read(most_bytes)):
        data += more
    return data[: data.rfind(b"\n") + 1]


def sample_lines(path: Path, blocks: int = 128, block_bytes: int = 2**13) -> list[MetricsLine]:
    """Lines from evenly spaced blocks of a large file, its first and last among them: a sketch, at once."""
    sampled = b""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for number in range(blocks):
            file.seek(max(0, size - block_bytes) * number // max(1, blocks - 1))
            block = file.read(block_bytes)
            start = 0 if not number else block.find(b"\n") + 1
            sampled += block[start : max(start, block.rfind(b"\n") + 1)]
    lines, _ = decode_lines(sampled)
    return lines


def encode_line(line: Mapping[str, Number]) -> str:
    """One JSON object; non-finite floats as "nan", "inf", "-inf"."""
    return json.dumps({key: _encode(value) for key, value in line.items()}, allow_nan=False)


def decode_line(raw: bytes | str) -> MetricsLine | None:
    """The inverse of `encode_line`; None when the text is not an object of numbers with a whole step from 0 on."""
    try:
        parsed: object = json.loads(raw)
        if not isinstance(parsed, dict):
            return None
        line = {str(key): _decode(value) for key, value in cast("dict[object, object]", parsed).items()}
    except (ValueError, TypeError, RecursionError):
        return None
    step = line.get("step")
    return line if isinstance(step, int) and step >= 0 else None


def decode_lines(data: bytes) -> tuple[list[MetricsLine], int]:
    """The lines of a file's whole lines, in their order, and how many others could not be read."""
    lines: list[MetricsLine] = []
    bad_lines = 0
    for part in _parts(data):
        decoded = _decode_at_once(part)
        if decoded is None:
            each = [decode_line(raw) for raw in part.splitlines()]
            decoded = [line for line in each if line is not None]
            bad_lines += len(each) - len(decoded)
        lines += decoded
    return lines, bad_lines


def _parts(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", min(start + DECODED_BYTES, len(data) - 1)) + 1 or len(data)
        yield data[start:end]
        start = end


_USUAL_TYPES = {int, float, type(None)}


def _decode_at_once(part: bytes) -> list[MetricsLine] | None:
    """What `decode_line` makes of each line, at half the cost; None where a line is not of the usual kind."""
    try:
        parsed: object = json.loads(b"[" + part.strip().replace(b"\n", b",") + b"]")
    except (ValueError, RecursionError):
        return None
    rows = cast("list[MetricsLine]", parsed)
    if len(rows) != part.count(b"\n") or set(map(type, rows)) != {dict}:
        return None
    values = list(chain.from_iterable(row.values() for row in rows))
    if not set(map(type, values)) <= _USUAL_TYPES or _has_too_large_number(part, values):
        return None
    try:
        steps = cast("list[Number]", list(map(itemgetter("step"), rows)))
    except KeyError:
        return None
    return rows if set(map(type, steps)) == {int} and min(cast("list[int]", steps)) >= 0 else None


_DIGITS_AND_EXPONENTS = bytes(
    ord("0") if byte in b"0123456789" else ord("e") if byte in b"eE" else ord(" ") for byte in range(256)
)
_MANY_DIGITS, _LARGE_EXPONENT = b"0" * len(str(LARGEST_INTEGER)), b"0e000"


def _has_too_large_number(part: bytes, values: Sequence[Number]) -> bool:
    shapes = part.translate(_DIGITS_AND_EXPONENTS, b"+")
    if _MANY_DIGITS not in shapes and _LARGE_EXPONENT not in shapes:
        return False
    limits = {int: LARGEST_INTEGER, float: LARGEST}
    return any(value is not None and abs(value) >= limits[type(value)] for value in values)


def _encode(value: Number) -> Number | str:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _decode(value: object) -> Number:
    if isinstance(value, float):
        return value if not abs(value) >= LARGEST else math.copysign(math.inf, value)
    if value is None:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_INTEGER:
        return value
    if value in ("nan", "inf", "-inf"):
        return float(cast("str", value))
    raise TypeError(f"not a number: {value!r}")


def _drop_lines_after(path: Path, step: int) -> None:
    kept: list[bytes] = []
    for raw in path.read_bytes().splitlines(keepends=True):
        line = decode_line(raw) if raw.endswith(b"\n") else None
        if line is not None and (line.get("step") or 0) <= step:
            kept.append(raw)
    replacement = path.with_suffix(".jsonl.tmp")
    replacement.write_bytes(b"".join(kept))
    os.replace(replacement, path)
