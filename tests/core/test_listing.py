"""What can be named is listed so that it fits a terminal, and as a line each where a program reads it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from qad_core.cli import main
from qad_core.commands.config_list import COLUMNS as CONFIG_COLUMNS
from qad_core.commands.config_list import catalog_groups
from qad_core.commands.data import COLUMNS as DATA_COLUMNS
from qad_core.commands.data import data_groups, describe_datasets
from qad_core.commands.listing import print_groups
from qad_core.config.catalog import list_catalog
from qad_core.config.library import find_library


def in_a_terminal(width: int, what: str) -> list[str]:
    """The lines of `qad_core config list` or `data list` in a terminal, without its colours."""
    out = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True, highlight=False)
    if what == "data":
        print_groups(out, "dataset", DATA_COLUMNS, data_groups(describe_datasets()))
    else:
        print_groups(out, "kind", CONFIG_COLUMNS, catalog_groups(list_catalog(find_library({}))))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("what", "whole"),
    [
        ("data", ("combined_v1_v2_openscience_chat", "nvidia/Nemotron-Post-Training-Dataset-v1", "chat, reasoning")),
        ("config", ("qwen3-30b-a3b-thinking-2507", "combined_v1_v2_openscience_chat", "slurm-cpu-2-nodes")),
    ],
)
def test_a_list_fits_the_terminal_and_cuts_no_name(width: int, what: str, whole: tuple[str, ...]) -> None:
    lines = in_a_terminal(width, what)
    assert max(map(len, lines)) <= width
    assert all(any(name in line for line in lines) for name in whole)
    assert "…" not in "".join(lines)


@pytest.mark.parametrize(
    ("what", "named"),
    [("data", ("combined", "Nemotron-Post-Training-Dataset-v2 math")), ("config", ("model", "qwen3-30b-a3b-base"))],
)
def test_in_a_pipe_each_entry_is_one_line_that_says_what_it_is(
    what: str, named: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([what, "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{named[0]} ") and named[1] in line for line in lines)
    assert all(line == line.rstrip() and not line.startswith(" ") for line in lines)
