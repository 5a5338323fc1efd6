"""The project's figures, each with machine and date: `python -m benchmarks.figures [--only NAME] [key=value ...]`.

  import           seconds of `import qad_core.cli`, and whether it loads anything heavy
  tui-fleet        first frame, keys and CPU of the screen with 200 runs, 20 of them growing, and a squeue that hangs;
                   beside Textual's DataTable
  tui-curves       first curve of 500,000 metric events, and what following costs; beside EventAccumulator, tbparse,
                   terminalboard and textual-plot
  tui-log          opening and searching a log of 1 GB; beside tail, grep, toolong, Log and RichLog
  tui-queue        CPU of a refresh of the queue's screen with 10,000 jobs; beside DataTable, turm and sltop
  split            where the time of one distillation step goes
  demo             what `qad_core demo` costs and wins back; run once, then read
  qad-against-qat  both losses over several data orders; each run once, then read

The tui figures install the other programs with pip, each in an environment that is deleted again; one that cannot be
installed is named in the table with the reason. Overrides go to the experiments of all but the first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from benchmarks.demo_cost import measure_demo
from benchmarks.figure import Figure, print_figure
from benchmarks.import_time import measure_import
from benchmarks.qad_against_qat import measure_qad_against_qat
from benchmarks.tui_curves import measure_curves
from benchmarks.tui_fleet import measure_fleet
from benchmarks.tui_log import measure_log
from benchmarks.tui_queue import measure_queue
from qad_core.commands.output import console, error_console
from qad_core.errors import OutsideError, QadError


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    root: Path
    experiment: str
    overrides: tuple[str, ...]
    orders: int
    steps: int | None
    fresh: bool


FIGURES: dict[str, Callable[[Options], Figure]] = {
    "import": lambda options: measure_import(),
    "tui-fleet": lambda options: measure_fleet(),
    "tui-curves": lambda options: measure_curves(),
    "tui-log": lambda options: measure_log(),
    "tui-queue": lambda options: measure_queue(),
    "split": lambda options: measure_split_apart(options),
    "demo": lambda options: measure_demo(options.root, options.overrides, fresh=options.fresh),
    "qad-against-qat": lambda options: measure_qad_against_qat(
        options.root, options.experiment, options.overrides, orders=options.orders, steps=options.steps
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    arguments = parse_arguments(argv)
    options = Options(
        root=arguments.root.absolute(),
        experiment=arguments.experiment,
        overrides=tuple(arguments.overrides),
        orders=arguments.orders,
        steps=arguments.steps,
        fresh=arguments.fresh,
    )
    options.root.mkdir(parents=True, exist_ok=True)
    try:
        figures = measure_and_print(arguments.only or list(FIGURES), options, console())
    except QadError as error:
        error_console().print(f"error: {error}", markup=False)
        return error.exit_code
    if arguments.json:
        arguments.json.write_bytes(TypeAdapter(dict[str, Figure]).dump_json(figures, indent=1) + b"\n")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for example cluster.device=cpu")
    parser.add_argument("--only", action="append", choices=list(FIGURES), help="this figure; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON too")
    parser.add_argument("--root", type=Path, default=Path("runs/figures"), help="folder of the runs and their data")
    parser.add_argument("--experiment", default="demo", help="experiment of split and qad-against-qat")
    parser.add_argument("--orders", type=positive, default=3, help="data orders of qad-against-qat")
    parser.add_argument("--steps", type=positive, help="optimizer steps of qad-against-qat, else the experiment's")
    parser.add_argument("--fresh", action="store_true", help="run the demo again")
    return parser.parse_args(argv)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def measure_and_print(names: Sequence[str], options: Options, out: Console) -> dict[str, Figure]:
    """Name -> figure, each printed as soon as it is there."""
    figures: dict[str, Figure] = {}
    for name in names:
        figures[name] = FIGURES[name](options)
        print_figure(figures[name], out)
    return figures


def measure_split_apart(options: Options) -> Figure:
    """The split of a step, in a process of its own, whose memory is then the trainer's alone.

    Raises OutsideError when it fails.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        argv = [
            sys.executable, "-W", "ignore", "-m", "benchmarks.step_split", "--root", str(options.root),
            "--experiment", options.experiment, "--json", answer.name, *options.overrides,
        ]  # fmt: skip
        code = subprocess.run(argv, stdout=subprocess.DEVNULL).returncode
        if code != 0:
            raise OutsideError(f"benchmarks.step_split ended with exit code {code}", "Its output above says why.")
        return Figure.model_validate_json(Path(answer.name).read_bytes())


if __name__ == "__main__":
    sys.exit(main())
