"""Distillation (QAD) against training on the data alone (QAT): same model, tokens, steps and learning rate.

One run a loss and data order, each started by `qad_core train`; a run that is done is only read. `train.seed` sets
the data order, and with it the sequences of the calibration, so plain quantization (PTQ) differs a little too. The
weights are the model's own and the held-out blocks are the same everywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.figure import Figure
from qad_core.commands.experiment import run_folder_of
from qad_core.config.checks import check_experiment
from qad_core.config.load import load_experiment
from qad_core.config.problems import InvalidConfigError
from qad_core.errors import RunError
from qad_core.run.metrics import MetricsLine
from qad_core.run.store import RunSummary, summarize_run

FIRST_SEED = 1234
PTQ = "PTQ: no training"


@dataclass(frozen=True)
class Quantity:
    """One held-out measure."""

    name: str
    key: str
    """In an evaluation line."""
    lower_is_better: bool


QUANTITIES = (
    Quantity("KL to the teacher", "eval/kl", lower_is_better=True),
    Quantity("cross-entropy", "eval/ce", lower_is_better=True),
    Quantity("top-1 agreement", "eval/top1_agreement", lower_is_better=False),
)


@dataclass(frozen=True)
class Arms:
    """The finished runs, one an order in each arm."""

    qad: list[RunSummary]
    qat: list[RunSummary]

    def values(self, quantity: Quantity) -> dict[str, list[float]]:
        """Row -> the quantity in each order."""
        return {
            PTQ: [value_of(run.evaluations[0], quantity.key) for run in self.qad],
            "QAD": [value_of(run.evaluations[-1], quantity.key) for run in self.qad],
            "QAT": [value_of(run.evaluations[-1], quantity.key) for run in self.qat],
        }


def measure_qad_against_qat(
    root: Path, experiment: str, overrides: Sequence[str], *, orders: int, steps: int | None
) -> Figure:
    """Run what is not done yet, below `root`, and compare.

    `steps` replaces the experiment's number of optimizer steps. Raises InvalidConfigError for problems of the
    experiment, RunError for a run that does not end well.
    """
    common = [*overrides, *length_overrides(experiment, overrides, steps), *place_overrides(root)]
    seeds = range(FIRST_SEED, FIRST_SEED + orders)
    arms = Arms(*([finish_run(experiment, [*common, *arm(loss, seed)]) for seed in seeds] for loss in ("qad", "qat")))
    return describe_arms(arms, experiment)


def length_overrides(experiment: str, overrides: Sequence[str], steps: int | None) -> list[str]:
    """The override for `steps` optimizer steps."""
    if steps is None:
        return []
    batch = load_experiment(experiment, overrides).config.train.global_batch_size
    return [f"train.train_samples={steps * batch}"]


def place_overrides(root: Path) -> list[str]:
    """Where the runs and their tokens lie."""
    return [f"paths.checkpoint_root={root}", f"paths.data_cache={root / 'data_cache'}"]


def arm(loss: str, seed: int) -> list[str]:
    """Overrides of one run."""
    return [f"loss={loss}", f"train.seed={seed}", f"tag=order{seed - FIRST_SEED + 1}"]


def finish_run(experiment: str, overrides: Sequence[str]) -> RunSummary:
    """The run of an experiment, trained here unless it is done.

    Its checkpoints, gigabytes that nobody will look at, are removed: the figure needs its evaluations alone.
    """
    resolved, problems = check_experiment(experiment, overrides)
    if problems or resolved is None:
        raise InvalidConfigError(problems)
    folder = run_folder_of(resolved.config)
    if not is_done(folder.path):
        argv = [sys.executable, "-m", "qad_core.cli", "train", experiment, *overrides]
        code = subprocess.run(argv, stdout=sys.stderr).returncode
        if code != 0:
            raise RunError(f"the run {folder.path} ended with exit code {code}", "Its output above says why.")
        shutil.rmtree(folder.path / "checkpoints")
    return summarize_run(folder.path)


def is_done(path: Path) -> bool:
    """Whether a run folder holds a finished run."""
    return path.is_dir() and summarize_run(path).state == "done"


def value_of(line: MetricsLine, key: str) -> float:
    """One value of an evaluation line; raises RunError where it has none."""
    value = line.get(key)
    if value is None:
        raise RunError(
            f"the evaluation of step {line.get('step')} has no {key}", "Remove its run folder and run again."
        )
    return float(value)


def held_out_tokens(arms: Arms) -> int:
    """Tokens that all runs were judged by; raises RunError when they are not the same."""
    counts = {int(value_of(run.evaluations[-1], "eval/tokens")) for run in (*arms.qad, *arms.qat)}
    if len(counts) > 1:
        raise RunError(
            f"the runs were judged by different numbers of tokens: {sorted(counts)}",
            "Name another --root, or remove the runs of this one.",
        )
    return counts.pop()


def describe_arms(arms: Arms, experiment: str) -> Figure:
    """The table of both arms, and in words which is better on what."""
    values = {quantity.name: arms.values(quantity) for quantity in QUANTITIES}
    won_back = {"QAD": [run.recovered or 0.0 for run in arms.qad], "QAT": [run.recovered or 0.0 for run in arms.qat]}
    teacher = value_of(arms.qad[0].evaluations[-1], "eval/teacher_ce")
    tokens, steps = held_out_tokens(arms), arms.qad[0].step
    columns = {**values, "KL gap won back": won_back}
    dates = [time.strftime("%Y-%m-%d", time.localtime(run.updated)) for run in (*arms.qad, *arms.qat)]
    return Figure(
        title=f"QAD against QAT: experiment {experiment}, {steps} steps, {len(arms.qad)} data orders, "
        f"{tokens} held-out tokens; mean (least .. greatest)",
        columns=("", *(f">{name}" for name in columns)),
        rows=(
            ("teacher", "0", f"{teacher:.4f}", "1.0000", ""),
            *((row, *(show_spread(column.get(row, ())) for column in columns.values())) for row in (PTQ, "QAD", "QAT")),
        ),
        sentences=(
            *(verdict(quantity, values[quantity.name]["QAD"], values[quantity.name]["QAT"]) for quantity in QUANTITIES),
            f"The runs ended from {min(dates)} to {max(dates)}.",
        ),
        data={
            "values": columns,
            "teacher_cross_entropy": teacher,
            "held_out_tokens": tokens,
            "steps": steps,
            "runs": [str(run.path) for run in (*arms.qad, *arms.qat)],
        },
    )


def show_spread(values: Sequence[float]) -> str:
    """Mean, least and greatest; nothing for no values."""
    if not values:
        return ""
    return f"{fmean(values):.4f} ({min(values):.4f} .. {max(values):.4f})"


def verdict(quantity: Quantity, qad: Sequence[float], qat: Sequence[float]) -> str:
    """Which arm is better on a quantity, in how many orders, and whether the spreads leave room for doubt.

    `qad` and `qat` hold one value an order, in the same order.
    """
    mean_qad, mean_qat = fmean(qad), fmean(qat)
    if mean_qad == mean_qat:
        return f"{quantity.name}: no difference on average."
    qad_leads = (mean_qad < mean_qat) == quantity.lower_is_better
    better, worse = (qad, qat) if qad_leads else (qat, qad)
    low, high = (better, worse) if quantity.lower_is_better else (worse, better)
    wins = sum(one < other for one, other in zip(low, high, strict=True))
    apart = max(low) < min(high)
    return (
        f"{quantity.name}: {'QAD' if qad_leads else 'QAT'} is {'clearly ' if apart else ''}better, "
        f"{'lower' if quantity.lower_is_better else 'higher'} by "
        f"{100 * abs(mean_qad - mean_qat) / abs(fmean(worse)):.1f} % on average and in {wins} of {len(qad)} orders; "
        f"the spreads {'do not overlap' if apart else 'overlap'}."
    )
