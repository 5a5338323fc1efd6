"""How every command answers: one JSON object for programs, tables and sentences for people.

Owns the envelope `{"ok", "data", "problems"}` and the consoles. It decides nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from qad_core.config.problems import InvalidConfigError, Problem
from qad_core.errors import ExitCode, QadError
from qad_core.run.show import count_of

PIPE_WIDTH = 240


def console() -> Console:
    """Where answers go; in a file or a pipe they are plain and no column is cut."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def error_console() -> Console:
    """Where problems go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(data: object, problems: Sequence[Problem] = ()) -> None:
    """Print the envelope: ok is true when there is no problem."""
    envelope = {"ok": not problems, "data": plain(data), "problems": [dataclasses.asdict(one) for one in problems]}
    print(json.dumps(envelope, indent=1, allow_nan=False))


def print_problems(problems: Sequence[Problem]) -> None:
    """Print each problem with where it is and what to do, on stderr."""
    out = error_console()
    for problem in problems:
        out.print(str(problem), markup=False)
    out.print(f"{count_of(len(problems), 'problem')}; nothing was started.")


def print_notes(notes: Sequence[Problem]) -> None:
    """Print what the reader should know though nothing is wrong, on stderr."""
    out = error_console()
    for note in notes:
        out.print(f"note: {note}", markup=False)


def show_problems(problems: Sequence[Problem], *, as_json: bool) -> ExitCode:
    """Answer with problems alone; the exit code that they come to."""
    if as_json:
        print_json(None, problems)
    else:
        print_problems(problems)
    return ExitCode.USER_ERROR


def problems_of(error: QadError) -> list[Problem]:
    """An error as problems: all of those that it carries."""
    if isinstance(error, InvalidConfigError):
        return list(error.problems)
    return [Problem(error.message, "", error.hint)]


def plain(value: object) -> object:
    """The value in JSON's types; non-finite floats are strings, as in metrics.jsonl."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value


class PlainTable(Table):
    """A table whose texts are shown as they are: brackets in a path or an error are no markup."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Add a row; a cell that is to have a style is a `Text` with it."""
        plain_cells = (Text(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*plain_cells, style=style, end_section=end_section)


def make_table(*columns: str) -> PlainTable:
    """A table in the house style: names left, numbers (a column name starting with `>`) right."""
    table = PlainTable(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        name = escape(column.removeprefix(">"))
        table.add_column(name, justify="right" if column.startswith(">") else "left")
    return table
