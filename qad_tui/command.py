"""The command `qad-tui`: its arguments, and where runs are looked for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from qad_core import __version__


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `qad-tui [ROOT ...]`."""
    parsed = make_parser().parse_args(arguments)
    from qad_tui.app import QadApp

    QadApp(parsed.roots or default_roots(os.environ)).run()


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(prog="qad-tui", description="Manage quantization-aware distillation runs.")
    parser.add_argument(
        "roots",
        nargs="*",
        type=Path,
        metavar="ROOT",
        help="folders with run folders, or run folders (default: $QAD_CHECKPOINT_ROOT, else ./runs)",
    )
    parser.add_argument("--version", action="version", version=f"qad-tui {__version__}")
    return parser


def default_roots(environ: Mapping[str, str]) -> list[Path]:
    """Where runs are looked for when no root is named: QAD_CHECKPOINT_ROOT, else ./runs."""
    return [Path(environ.get("QAD_CHECKPOINT_ROOT") or "runs")]
