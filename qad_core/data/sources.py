"""Where raw text comes from, cut into units that are read one apart from the other.

Owns the files of a source, how they are cut, and the records in them as they stand. A unit is small,
so that all cores have work, memory stays flat and a preparation that was stopped goes on from the
units that are there. It does not render, sample, split, drop duplicates or tokenize. What comes from
the hub's own servers is `hub.py`'s.
"""

from __future__ import annotations

import hashlib
import random
import sys
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qad_core import __version__
from qad_core.config.schema import SourceConfig
from qad_core.data.hub import HUB_SCHEMES, list_hub_files, stream_hub_file
from qad_core.data.made_text import MADE_CHARACTERS, make_documents
from qad_core.data.record_files import (
    Record,
    count_lines_before,
    cut_bytes,
    open_parquet,
    read_lines,
    read_rows,
    row_groups,
)
from qad_core.errors import DataError

TEXT_SUFFIXES = (".txt", ".md", ".py")
RECORD_SUFFIXES = (".jsonl", ".parquet")
UNIT_BYTES = 8_000_000
"""About what a unit holds: seconds of work. It decides which records are sampled, so it does not follow the machine."""
# Tests repeat each other; encodings are tables of numbers; the others are not the library's own text.
SKIPPED_STDLIB_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "encodings"}
)


@dataclass(frozen=True)
class Piece:
    """A file, or a stretch of one."""

    place: str
    """Path or URL; empty for text that is made."""
    start: int = 0
    """First byte of JSONL, first row group of Parquet."""
    stop: int | None = None
    """End of the stretch, itself outside; None reads the whole file."""


@dataclass(frozen=True)
class Unit:
    """Pieces of one source that one process reads in their order."""

    source: str
    """Name of the source in its dataset."""
    number: int
    """Place in the order of the source's units, from 0."""
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """Name of the unit's files."""
        return f"{self.source}-{self.number:06d}"


def list_units(name: str, source: SourceConfig, *, seed: int, tell: Callable[[str], None]) -> list[Unit]:
    """Every unit of a source, in an order that depends on its settings, its files and `seed` alone.

    A source with `max_characters` is one unit: only who reads it from its beginning knows where it ends.
    Raises `DataError` for files that are not there, and what `hub.list_hub_files` raises.
    """
    sized = _list_pieces(source, seed, tell)
    if source.max_characters is not None:
        return [Unit(name, 0, tuple(piece for piece, _ in sized))]
    return [Unit(name, number, pieces) for number, pieces in enumerate(_group(sized))]


def read_piece(source: SourceConfig, piece: Piece, tell: Callable[[str], None]) -> Iterator[Record]:
    """(number from 1, content) of each record: a string where it is text, a line's bytes, or a row as a dict.

    Raises `DataError` for a file that cannot be read as what it is, and what `hub.stream_hub_file` raises.
    """
    if source.kind == "made":
        return enumerate(make_documents(source.max_characters or MADE_CHARACTERS), start=1)
    if source.kind == "python_stdlib":
        return iter([(1, _read_python(Path(piece.place)))])
    if source.kind == "text":
        return iter([(1, read_text_file(Path(piece.place)))])
    if piece.place.startswith(HUB_SCHEMES):
        return stream_hub_file(piece.place, tell)
    return _read_records(piece)


def describe_place(piece: Piece, number: int) -> str:
    """Where a record stands: `FILE, line 7` or `FILE, row 7`, counted from the file's beginning."""
    if piece.place.endswith(".parquet"):
        before = sum(rows for rows, _ in row_groups(Path(piece.place))[: piece.start]) if piece.start else 0
        return f"{piece.place}, row {number + before:,}"
    before = count_lines_before(Path(piece.place), piece.start) if piece.start else 0
    return f"{piece.place}, line {number + before:,}"


def fingerprint_source(source: SourceConfig) -> str | None:
    """Hash that changes when the raw text may have changed: file names, sizes, times, or versions.

    None for the hub's own servers, which are not asked: what was prepared from them stays good.
    """
    if source.kind == "hub" and not source.paths:
        return None
    if source.kind == "made":
        facts = [__version__]
    elif source.kind == "python_stdlib":
        facts = [sys.version, str(stdlib_folder())]
    else:
        facts = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in source_files(source)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def check_copies(sources: Mapping[str, SourceConfig]) -> None:
    """Raise `DataError` when one file is given as the copy of several sources or splits of the hub."""
    meant: dict[str, list[str]] = {}
    for name, source in sources.items():
        if source.kind == "hub" and len(source.paths) == 1 and Path(source.paths[0]).is_file():
            of_source = [f"{name} {split}".strip() for split in source.splits or ("",)]
            meant.setdefault(source.paths[0], []).extend(of_source)
    for path, meanings in meant.items():
        if len(meanings) > 1:
            raise DataError(
                f"{path} is one file, and the dataset reads several: {', '.join(meanings)}",
                "Give the folder that holds a file of each: --source FOLDER.",
            )


def source_files(source: SourceConfig) -> list[Path]:
    """Files of a `text` or `jsonl` source or of copies of the hub's: those named, and those below the folders named.

    Raises `DataError` naming every path that is not there, or when nothing is found.
    """
    paths = [Path(path) for path in source.paths]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(f"source paths that are not there: {', '.join(missing)}", "Correct dataset.source.paths.")
    suffixes = TEXT_SUFFIXES if source.kind == "text" else RECORD_SUFFIXES
    if source.kind == "hub":
        return [file for path in paths for file in _hub_copies(path, source)]
    files = [file for path in paths for file in _files_below(path, suffixes)]
    if not files:
        raise DataError(
            f"no {_wanted(suffixes)} file in dataset.source.paths {list(source.paths)}",
            f"Name files, or folders with {_wanted(suffixes)}.",
        )
    return files


def stdlib_folder() -> Path:
    """Folder of this Python's own library sources."""
    return Path(sysconfig.get_path("stdlib"))


def stdlib_files(seed: int) -> list[Path]:
    """This Python's own modules, shuffled by `seed` so that a limit takes a fair sample."""
    folder = stdlib_folder()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    names = [name for name in names if _is_library_text(name)]
    if not names:
        raise DataError(f"no Python sources in {folder}", "Use a Python with its library unpacked, or another source.")
    random.Random(seed).shuffle(names)
    return [folder / name for name in names]


def read_text_file(path: Path) -> str:
    """A whole file, which is one document; `DataError` when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start}", "Convert it, or leave it out.") from error


def _list_pieces(source: SourceConfig, seed: int, tell: Callable[[str], None]) -> list[tuple[Piece, int]]:
    """(piece, its size in bytes); a file of the hub's servers is a unit of its own, whatever its size."""
    if source.kind == "made":
        return [(Piece(""), 0)]
    if source.kind == "hub" and not source.paths:
        return [(Piece(url), UNIT_BYTES) for url in list_hub_files(source, tell)]
    files = stdlib_files(seed) if source.kind == "python_stdlib" else source_files(source)
    return [sized for path in files for sized in _cut_file(source, path)]


def _cut_file(source: SourceConfig, path: Path) -> Iterator[tuple[Piece, int]]:
    size = path.stat().st_size
    if source.kind in ("text", "python_stdlib"):
        yield Piece(str(path)), size
    elif path.suffix == ".parquet":
        for number, (_, group_size) in enumerate(row_groups(path)):
            yield Piece(str(path), number, number + 1), group_size
    else:
        for start, stop in cut_bytes(size, UNIT_BYTES):
            yield Piece(str(path), start, stop), stop - start


def _group(sized: Sequence[tuple[Piece, int]]) -> Iterator[tuple[Piece, ...]]:
    """Consecutive pieces, as many as make up a unit."""
    group: list[Piece] = []
    filled = 0
    for piece, size in sized:
        group.append(piece)
        filled += size
        if filled >= UNIT_BYTES:
            yield tuple(group)
            group, filled = [], 0
    if group:
        yield tuple(group)


def _read_records(piece: Piece) -> Iterator[Record]:
    if piece.place.endswith(".parquet"):
        file = open_parquet(Path(piece.place))
        yield from read_rows(file, None if piece.stop is None else range(piece.start, piece.stop))
        return
    with Path(piece.place).open("rb") as file:
        yield from read_lines(file, piece.start, piece.stop)


def _read_python(path: Path) -> str:
    with tokenize.open(str(path)) as file:  # honours the file's coding line
        return file.read()


def _hub_copies(path: Path, source: SourceConfig) -> list[Path]:
    """Files of the source's splits: the path itself, or those below it that are named after subset and split.

    A folder may hold several repositories, each below its `owner/name`, as `hf download` puts them.
    """
    if path.is_file():
        return [path]
    root = path / (source.repository or "")
    root = root if root.is_dir() else path
    files = _files_below(root, RECORD_SUFFIXES)
    if source.subset is not None:
        files = [file for file in files if _is_named(file.relative_to(root), source.subset)]
    found = [[file for file in files if _is_named(file.relative_to(root), split)] for split in source.splits]
    if source.subset is not None and len(found) == 1 and not found[0]:
        found = [files]  # a subset in one file seldom names its only split
    lacking = [split for split, of_split in zip(source.splits, found, strict=True) if not of_split]
    if lacking or not found:
        of_subset = f" of the subset {source.subset}" if source.subset else ""
        raise DataError(
            f"{root} holds no {_wanted(RECORD_SUFFIXES)} file{of_subset} of {', '.join(lacking) or 'any split'}",
            "Name files or folders after the split: stem.jsonl, data/stem-00000-of-00002.parquet, stem/part.jsonl.",
        )
    return list(dict.fromkeys(file for of_split in found for file in of_split))


def _is_named(path: Path, word: str) -> bool:
    """Whether a part of the path is the word, alone or before a `-` or a `.`."""
    return any(part == word or part.startswith((f"{word}-", f"{word}.")) for part in path.parts)


def _wanted(suffixes: Iterable[str]) -> str:
    return ", ".join(f"*{suffix}" for suffix in suffixes)


def _files_below(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in suffixes and file.is_file())


def _is_library_text(name: str) -> bool:
    # _sysconfigdata* holds this machine's compiler settings, which differ from one machine to the next.
    folders, _, file_name = name.rpartition("/")
    return SKIPPED_STDLIB_FOLDERS.isdisjoint(folders.split("/")) and not file_name.startswith("_sysconfigdata")
