"""metrics.jsonl: one flushed JSON line a step or an evaluation, written by one process, read by many.

Owns the format. A NaN or an infinity is written as the string "nan", "inf" or "-inf", never dropped.
A reader goes on from a byte offset, holds a half-written last line back, and survives a file that
was cut (a resume drops the lines after its checkpoint).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

Number = float | int | None
MetricsLine = dict[str, Number]

LARGEST_INTEGER = 2**63
"""No count of ours is as large; larger ones are not floats either."""
TRAINING_KEYS = (
    "step", "time", "consumed_samples", "consumed_tokens", "loss/kd", "learning_rate",
    "grad_norm", "skipped", "step_ms", "tokens_per_s", "memory_gib",
)  # fmt: skip
EVALUATION_KEYS = (
    "step", "time", "eval/kl", "eval/ce", "eval/teacher_ce", "eval/perplexity",
    "eval/top1_agreement", "eval/tokens",
)  # fmt: skip


def is_evaluation(line: Mapping[str, Number]) -> bool:
    """Whether a line is an evaluation's rather than a step's."""
    return "eval/kl" in line


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

    def read_new(self) -> tuple[list[MetricsLine], bool]:
        """Return (new lines, restarted); `restarted` says that the file was cut or replaced and is read anew."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return [], False
        restarted = self.offset > 0 and (stat.st_size < self.offset or stat.st_ino != self._inode)
        if restarted:
            self.offset = 0
        self._inode = stat.st_ino
        if stat.st_size == self.offset:
            return [], restarted
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return list(self._decode(whole)), restarted

    def _decode(self, data: bytes) -> Iterable[MetricsLine]:
        for raw in data.splitlines():
            line = decode_line(raw)
            if line is None:
                self.bad_lines += 1
            else:
                yield line


def read_metrics(path: Path) -> list[MetricsLine]:
    """All whole lines of a metrics.jsonl; an absent file is empty."""
    return MetricsReader(path).read_new()[0]


def encode_line(line: Mapping[str, Number]) -> str:
    """One JSON object; non-finite floats as "nan", "inf", "-inf"."""
    return json.dumps({key: _encode(value) for key, value in line.items()}, allow_nan=False)


def decode_line(raw: bytes | str) -> MetricsLine | None:
    """The inverse of `encode_line`; None when the text is not an object of numbers with a whole step."""
    try:
        parsed: object = json.loads(raw)
        if not isinstance(parsed, dict):
            return None
        line = {str(key): _decode(value) for key, value in cast("dict[object, object]", parsed).items()}
    except (ValueError, TypeError):
        return None
    return line if isinstance(line.get("step"), int) else None


def _encode(value: Number) -> Number | str:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _decode(value: object) -> Number:
    if value is None or isinstance(value, float):
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
