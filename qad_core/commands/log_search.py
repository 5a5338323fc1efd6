"""`qad_core logs RUN --list`, `--search`, `--first-error`: which logs there are, and what is in one of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from qad_core.commands.logs import choose_log
from qad_core.commands.output import console, error_console, make_table, print_json
from qad_core.commands.runs import find_run
from qad_core.run.jobs import read_jobs
from qad_core.run.log_search import EveryLine, LogPattern, MatchingLine, matching_lines
from qad_core.run.log_signs import ErrorLines
from qad_core.run.log_sources import list_logs


def list_run_logs(run: str, roots: Sequence[Path], *, as_json: bool) -> None:
    """Print every log of a run: of each rank in each start, and of each SLURM job."""
    folder = find_run(run, roots).folder
    sources = list_logs(folder, read_jobs(folder.jobs))
    if as_json:
        print_json([dataclasses.asdict(source) for source in sources])
        return
    table = make_table("start", "written by", ">bytes", ">changed", "file")
    for source in sources:
        changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(source.modified)) if source.modified else ""
        size = "none yet" if source.size is None else f"{source.size:,}"
        table.add_row(source.when, source.who, size, changed, str(source.path))
    console().print(table)


def search_run_log(run: str, roots: Sequence[Path], words: str, *, rank: int, job: str | None, as_json: bool) -> None:
    """Print every line of a log that matches, with its number, as grep does.

    `words` is a regular expression where it is a valid one; case is ignored. Raises RunError when there is no such
    log.
    """
    path = choose_log(find_run(run, roots).folder, rank=rank, job=job)
    pattern = LogPattern(words)
    if pattern.note:
        error_console().print(f"note: {words!r} is searched {pattern.note}", markup=False)
    found = matching_lines(path, pattern)
    if as_json:
        print_json({"log": path, "lines": [dataclasses.asdict(line) for line in found]})
    else:
        _print_lines(found, path)


def show_first_error(run: str, roots: Sequence[Path], *, rank: int, job: str | None, lines: int, as_json: bool) -> None:
    """Print a log from its first line on that speaks of an error, `lines` lines of it.

    Raises RunError when there is no such log.
    """
    path = choose_log(find_run(run, roots).folder, rank=rank, job=job)
    first = next(matching_lines(path, ErrorLines()), None)
    if as_json:
        print_json({"log": path, "line": dataclasses.asdict(first) if first else None})
    elif first is None:
        _print_lines([], path)
    else:
        _print_lines(islice(matching_lines(path, EveryLine(), first.offset, first.number), max(1, lines)), path)


def _print_lines(lines: Iterable[MatchingLine], path: Path) -> None:
    printed = 0
    for line in lines:
        print(f"{line.number}:{line.text}")
        printed += 1
    if not printed:
        error_console().print(f"No such line in {path}.", markup=False)
