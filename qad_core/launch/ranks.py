"""The rank processes of one machine: their commands, what they print, and what a failed one of them says.

Owns no order of steps: `run_local.py` runs a whole start and machine 0's part of it, `machines.py` the other
machines'.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from qad_core.launch.plan import LaunchPlan, rank_environment
from qad_core.launch.processes import ProcessPlan, describe_failure
from qad_core.run.folder import RunFolder

OUTPUT_TAIL_LINES = 20


@dataclass(frozen=True)
class Ending:
    """How a start ended."""

    exit_code: int
    output: Path
    """File with what the decisive process printed."""
    error: str = ""
    """What went wrong, when it did."""
    hint: str = ""


def rank_processes(plan: LaunchPlan, port: int, stamp: str) -> list[ProcessPlan]:
    """The processes of a plan's ranks that meet at a port; `stamp` tells this start's output files apart."""
    return [
        ProcessPlan(
            plan.argv,
            {**os.environ, **rank_environment(plan, rank, port=port)},
            output_path(plan.run_folder, stamp, rank),
        )
        for rank in range(plan.processes)
    ]


def output_path(folder: RunFolder, stamp: str, local_rank: int) -> Path:
    """What a rank prints beside its log: warnings of libraries, and crashes before the log is open."""
    return folder.logs / f"output_{stamp}_rank{local_rank}.out"


def failure_words(plan: LaunchPlan, failure: tuple[int, int], output: Path) -> tuple[str, str]:
    """What a rank printed last when it was an error of ours, else how its process ended."""
    local_rank, return_code = failure
    rank = plan.rendezvous.node_rank * plan.processes + local_rank
    return printed_error(output_tail(output)) or describe_failure(rank, return_code)


def output_tail(path: Path, lines: int = OUTPUT_TAIL_LINES) -> str:
    """The last lines that a process printed."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def printed_error(text: str) -> tuple[str, str] | None:
    """Message and hint of the last `error: ...` line that one of our commands printed, with what follows it."""
    _, found, rest = f"\n{text}".rpartition("\nerror: ")
    message, _, hint = rest.partition("\n")
    return (message, " ".join(hint.split())) if found else None
