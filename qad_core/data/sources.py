"""Documents from a `SourceConfig`, one string each, as generators: memory holds one document at a time.

Owns where raw text comes from and in which order. It does not split, drop duplicates or tokenize.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from qad_core import __version__
from qad_core.config.schema import SourceConfig
from qad_core.data.made_text import MADE_CHARACTERS, make_documents
from qad_core.data.render import ChatTemplate, render_record
from qad_core.errors import DataError

TEXT_SUFFIXES = (".txt", ".md", ".py")
JSONL_SUFFIXES = (".jsonl",)
# Tests repeat each other; encodings are tables of numbers; the others are not the library's own text.
SKIPPED_STDLIB_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "encodings"}
)


def read_documents(source: SourceConfig, *, seed: int, apply_chat_template: ChatTemplate) -> Iterator[str]:
    """Every document of the source, in an order that depends on the settings and `seed` alone.

    The last document is cut where `max_characters` are reached.
    Raises `DataError` with the file (and line) of whatever cannot be read.
    """
    limit = source.max_characters
    if source.kind == "made":
        return limit_characters(make_documents(limit or MADE_CHARACTERS), limit)
    if source.kind == "python_stdlib":
        return limit_characters(read_python_stdlib(seed), limit)
    files = source_files(source)
    if source.kind == "text":
        return limit_characters(map(read_text_file, files), limit)
    return limit_characters(read_jsonl_files(files, apply_chat_template), limit)


def fingerprint_source(source: SourceConfig) -> str:
    """Hash that changes when the raw text may have changed: file names, sizes, times, or versions."""
    if source.kind == "made":
        facts = [__version__]
    elif source.kind == "python_stdlib":
        facts = [sys.version, str(stdlib_folder())]
    else:
        facts = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in source_files(source)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def source_files(source: SourceConfig) -> list[Path]:
    """Files of a `text` or `jsonl` source: those named, and those found in the folders named, sorted.

    Raises `DataError` naming every path that is not there, or when nothing is found.
    """
    paths = [Path(path) for path in source.paths]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(f"source paths that are not there: {', '.join(missing)}", "Correct dataset.source.paths.")
    suffixes = TEXT_SUFFIXES if source.kind == "text" else JSONL_SUFFIXES
    files = [file for path in paths for file in _files_below(path, suffixes)]
    if not files:
        wanted = ", ".join(f"*{suffix}" for suffix in suffixes)
        raise DataError(
            f"no {wanted} file in dataset.source.paths {list(source.paths)}", f"Name files, or folders with {wanted}."
        )
    return files


def limit_characters(documents: Iterable[str], max_characters: int | None) -> Iterator[str]:
    """The documents until `max_characters` are reached, the last one cut; None passes all."""
    left = max_characters
    for document in documents:
        if left is None:
            yield document
            continue
        yield document[:left]
        left -= len(document)
        if left <= 0:
            return


def stdlib_folder() -> Path:
    """Folder of this Python's own library sources."""
    return Path(sysconfig.get_path("stdlib"))


def read_python_stdlib(seed: int) -> Iterator[str]:
    """This Python's own modules, one a document, shuffled by `seed` so that a limit takes a fair sample."""
    folder = stdlib_folder()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    names = [name for name in names if _is_library_text(name)]
    if not names:
        raise DataError(f"no Python sources in {folder}", "Use a Python with its library unpacked, or another source.")
    random.Random(seed).shuffle(names)
    for name in names:
        with tokenize.open(str(folder / name)) as file:  # honours the file's coding line
            yield file.read()


def read_text_file(path: Path) -> str:
    """A whole file, which is one document; `DataError` when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start}", "Convert it, or leave it out.") from error


def read_jsonl_files(files: Iterable[Path], apply_chat_template: ChatTemplate) -> Iterator[str]:
    """One document a line; empty lines are passed over; a bad record is a `DataError` with file and line."""
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _render_line(path, number, line, apply_chat_template)


def _render_line(path: Path, number: int, line: bytes, apply_chat_template: ChatTemplate) -> str:
    try:
        return render_record(json.loads(line), apply_chat_template)
    except DataError as error:
        raise DataError(f"{path}, line {number}: {error.message}", error.hint) from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"{path}, line {number}: not JSON: {error}", "Write one JSON object a line.") from error


def _files_below(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in suffixes and file.is_file())


def _is_library_text(name: str) -> bool:
    # _sysconfigdata* holds this machine's compiler settings, which differ from one machine to the next.
    folders, _, file_name = name.rpartition("/")
    return SKIPPED_STDLIB_FOLDERS.isdisjoint(folders.split("/")) and not file_name.startswith("_sysconfigdata")
