"""How long `import qad_core.cli` takes in a fresh interpreter, and whether it loads anything heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from statistics import median

from benchmarks.figure import Figure

MODULE = "qad_core.cli"
HEAVY_PACKAGES = frozenset({"torch", "megatron", "modelopt", "transformers", "tensorboard", "numpy", "textual"})
BOUND_SECONDS = 0.3


def measure_import(repeats: int = 5) -> Figure:
    """Median seconds over fresh interpreters, as `python -X importtime` counts them."""
    measured = [import_times(MODULE) for _ in range(repeats)]
    seconds = [times[MODULE] for times in measured]
    heavy = heavy_packages(measured[0])
    middle = median(seconds)
    return Figure(
        title=f"import {MODULE}",
        columns=("", ">seconds"),
        rows=(
            (f"median of {repeats} fresh interpreters", f"{middle:.3f}"),
            ("fastest", f"{min(seconds):.3f}"),
            ("slowest", f"{max(seconds):.3f}"),
        ),
        sentences=(
            f"{'Under' if middle < BOUND_SECONDS else 'NOT under'} {BOUND_SECONDS} s.",
            f"Heavy packages loaded: {', '.join(heavy) or 'none'}; {len(measured[0])} modules in all.",
        ),
        data={"seconds": seconds, "median_seconds": middle, "heavy_packages": heavy, "modules": len(measured[0])},
    )


def import_times(module: str) -> dict[str, float]:
    """Module -> cumulative seconds, for everything that importing `module` in a fresh interpreter loads."""
    argv = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    return parse_import_times(subprocess.run(argv, capture_output=True, text=True, check=True).stderr)


def parse_import_times(text: str) -> dict[str, float]:
    """Read the lines `import time: SELF | CUMULATIVE | MODULE` (microseconds) of `python -X importtime`."""
    fields = [line.removeprefix("import time:").split("|") for line in text.splitlines() if "import time:" in line]
    return {name.strip(): int(total) / 1e6 for _, total, name in fields if total.strip().isdigit()}


def heavy_packages(modules: Iterable[str]) -> list[str]:
    """Those top-level packages among the modules that the light half must not load."""
    return sorted({module.partition(".")[0] for module in modules} & HEAVY_PACKAGES)
