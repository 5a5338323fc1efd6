"""The wall between the light half and the heavy half, proved in fresh interpreters."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import qad_core
import qad_tui

HEAVY_PACKAGES = ("train", "kernels", "models", "data")
NEVER_IN_LIGHT = {"torch", "megatron", "modelopt", "transformers", "tensorboard", "numpy", "textual"}
NEVER_IN_SCREEN = NEVER_IN_LIGHT - {"numpy", "textual"}


def light_modules() -> list[str]:
    """Every module of qad_core that is not in a heavy package."""
    names = [module.name for module in pkgutil.walk_packages(qad_core.__path__, "qad_core.")]
    return [name for name in names if name.split(".")[1] not in HEAVY_PACKAGES]


def screen_modules() -> list[str]:
    """Every module of qad_tui."""
    return [module.name for module in pkgutil.walk_packages(qad_tui.__path__, "qad_tui.")]


def packages_loaded_by(modules: list[str]) -> dict[str, set[str]]:
    """Import the modules one after another in a fresh interpreter; what each has brought in by then."""
    program = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    loaded[name] = sorted({module.partition('.')[0] for module in sys.modules})\n"
        "print(json.dumps(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(modules)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(qad_core.__path__[0]).parent,
    )
    loaded: dict[str, list[str]] = json.loads(done.stdout)
    return {name: set(packages) for name, packages in loaded.items()}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [(["qad_core.cli", *light_modules()], NEVER_IN_LIGHT), (screen_modules(), NEVER_IN_SCREEN)],
    ids=["light half", "screen"],
)
def test_no_module_loads_a_package_of_the_other_side(modules: list[str], forbidden: set[str]) -> None:
    offenders = {name: sorted(packages & forbidden) for name, packages in packages_loaded_by(modules).items()}
    assert {name: found for name, found in offenders.items() if found} == {}


def test_importing_the_command_line_loads_none_of_its_commands() -> None:
    loaded = packages_loaded_by(["qad_core.cli"])["qad_core.cli"]
    assert loaded & {"pydantic", "rich", "ruamel", "psutil"} == set()


def test_the_wall_test_would_see_a_breach() -> None:
    assert "numpy" in packages_loaded_by(["numpy"])["numpy"]
