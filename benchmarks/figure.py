"""One figure: a table, what it says in words, and its numbers, with the machine and the date it was measured on.

Owns the form and how it is printed. It measures nothing but the machine.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from qad_core.commands.doctor import find_gpus
from qad_core.commands.output import make_table


class Machine(BaseModel):
    """What a figure was measured on."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    """Model name of the processor."""
    cores: int
    """Cores that this process may use."""
    memory_gib: float
    """Memory of the machine."""
    gpus: str
    """GPUs as nvidia-smi names them."""
    python: str
    load: float
    """Load average of the last minute when the figure was finished: above the own work, others were at work too."""

    def __str__(self) -> str:
        return (
            f"{self.cores} cores of {self.cpu}, {self.memory_gib:.1f} GiB memory; GPUs: {self.gpus}; "
            f"Python {self.python}; load {self.load:.1f}"
        )


def this_machine() -> Machine:
    """The machine as it is now."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=psutil.virtual_memory().total / 2**30,
        gpus=find_gpus([]),
        python=platform.python_version(),
        load=os.getloadavg()[0],
    )


class Figure(BaseModel):
    """What was measured for one question."""

    model_config = ConfigDict(frozen=True)

    title: str
    columns: tuple[str, ...]
    """Names of the columns; one that starts with `>` holds numbers."""
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]
    """What the numbers say, one sentence a line."""
    data: dict[str, Any]
    """The numbers themselves, as JSON."""
    machine: Machine = Field(default_factory=this_machine)
    date: str = Field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S %z"))
    """When it was measured."""


def print_figure(figure: Figure, out: Console) -> None:
    """Title, table, words, machine and date."""
    table = make_table(*figure.columns)
    for row in figure.rows:
        table.add_row(*row)
    out.print(f"\n{figure.title}", style="bold", markup=False)
    out.print(table, markup=False)
    for sentence in figure.sentences:
        out.print(sentence, markup=False, soft_wrap=True)
    out.print(f"[{figure.date}; {figure.machine}]", markup=False, soft_wrap=True, style="dim")


def _cpu_model(cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
