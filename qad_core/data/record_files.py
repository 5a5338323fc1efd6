"""Files of records, JSONL and Parquet: their records one by one, and where to cut them.

Owns both formats, on the disk or as a stream. What is in a record is `render.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from qad_core.errors import DataError

ROWS_PER_BATCH = 64
Record = tuple[int, Any]
"""(number from 1, content): the bytes of a line, or a row as a dict."""


def read_lines(file: BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[Record]:
    """Lines that begin in the bytes from `start` to `stop`; empty ones are counted and passed over."""
    if start:
        file.seek(start - 1)
        file.readline()  # to the end of the line that began before; of none, where the stretch begins with one
    number = 0
    while stop is None or file.tell() < stop:
        line = file.readline()
        if not line:
            return
        number += 1
        if line.strip():
            yield number, line


def count_lines_before(path: Path, start: int) -> int:
    """Line ends before the first line that begins at byte `start` or after it."""
    if not start:
        return 0
    with path.open("rb") as file:
        counted, left = 0, start - 1
        while left:
            block = file.read(min(left, 1 << 20))
            counted, left = counted + block.count(b"\n"), left - len(block)
        return counted + file.readline().endswith(b"\n")


def cut_bytes(size: int, stretch: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of stretches of at most so many bytes."""
    return ((start, min(start + stretch, size)) for start in range(0, size, stretch))


def read_rows(file: Any, groups: Sequence[int] | None = None) -> Iterator[Record]:
    """Rows of an open Parquet file, of some of its row groups or of all."""
    number = 0
    # Threads would be those of a process that was forked; each process has its own units.
    for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=groups, use_threads=False):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def row_groups(path: Path) -> list[tuple[int, int]]:
    """(rows, bytes when unpacked) of each row group of a Parquet file."""
    metadata = open_parquet(path).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [(group.num_rows, group.total_byte_size) for group in groups]


def open_parquet(source: Path | BinaryIO) -> Any:
    """A `pyarrow.parquet.ParquetFile`; `DataError` for something else."""
    # Imported here: most sources need none of it.
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(source)
    except ArrowInvalid as error:
        raise DataError(f"{source} is not a Parquet file: {error}", "Fetch it again, or leave it out.") from error
