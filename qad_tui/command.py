"""The command `qad-tui`: its arguments, and where runs are looked for."""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qad_core import __version__

if TYPE_CHECKING:
    from qad_tui.app import QadApp

SERVE_PORT = 8000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `qad-tui [ROOT ...]`."""
    parsed = make_parser().parse_args(arguments)
    roots = parsed.roots or default_roots(os.environ)
    if parsed.serve:
        sys.exit(serve(["--demo"] if parsed.demo else [str(root) for root in roots], parsed.port))
    if parsed.keys:
        print_keys()
        return
    if parsed.demo:
        sys.exit(run_demo(mouse=not parsed.no_mouse))
    sys.exit(run_app(load_app()(roots), mouse=not parsed.no_mouse))


def run_app(app: QadApp, *, mouse: bool) -> int | None:
    """Show the screen until it is left; the exit code. A bug that ended it is kept for whoever mends it."""
    app.run(mouse=mouse)
    if app.crash is not None:
        from qad_tui.crash_log import keep_crash

        print(keep_crash(app.crash, app.settings.home), file=sys.stderr)
    return app.return_code


def print_keys() -> None:
    """Print every key with its id and what it does."""
    from qad_tui.keys import declared_keys

    lines = [(key.id, ",".join(key.keys), key.words) for key in declared_keys().values()]
    id_width, keys_width = max(len(line[0]) for line in lines), max(len(line[1]) for line in lines)
    for name, keys, words in lines:
        print(f"{name:<{id_width}}  {keys:<{keys_width}}  {words}")


def load_app() -> type[QadApp]:
    """Import the application. What is imported stays for good: the garbage collector need not look at it, neither
    now, which would hold up the first frame, nor later, which would hold up keys.
    """
    gc.disable()
    from qad_tui.app import QadApp

    gc.freeze()
    gc.enable()
    return QadApp


def run_demo(*, mouse: bool) -> int | None:
    """Show the recorded fleet; the exit code."""
    from qad_tui.demo.start import demo_fleet

    with demo_fleet() as fleet:
        return run_app(load_app()([fleet.root], client=fleet.client), mouse=mouse)


def serve(arguments: Sequence[str], port: int) -> int:
    """Show the screen in a browser of this machine: whoever reaches the port can do what you can; the exit code."""
    try:
        from textual_serve.server import Server  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError:
        print("error: --serve needs textual-serve\n  Install it: pip install textual-serve", file=sys.stderr)
        return 2
    command = shlex.join([sys.executable, "-m", "qad_tui", *arguments])
    Server(command, host="127.0.0.1", port=port, title="qad-tui").serve()  # pyright: ignore[reportUnknownMemberType]
    return 0


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
    parser.add_argument("--demo", action="store_true", help="show a recorded fleet; needs no cluster and no runs")
    parser.add_argument("--serve", action="store_true", help="show it in a browser, on this machine's loopback only")
    parser.add_argument("--port", type=int, default=SERVE_PORT, help=f"port of --serve (default: {SERVE_PORT})")
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    parser.add_argument("--keys", action="store_true", help="list every key with the id that settings.toml has it by")
    parser.add_argument("--version", action="version", version=f"qad-tui {__version__}")
    return parser


def default_roots(environ: Mapping[str, str]) -> list[Path]:
    """Where runs are looked for when no root is named: QAD_CHECKPOINT_ROOT, else ./runs."""
    return [Path(environ.get("QAD_CHECKPOINT_ROOT") or "runs")]
