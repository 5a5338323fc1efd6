"""What was predicted of memory and time, against real runs on this machine's GPUs: `python -m benchmarks.prediction`.

Each case is a run of `qad_core train` from random weights at a real model's shape, ended after `--steps` steps, so that
nothing is saved. Cases that want more GPUs than there are get left out. Peak memory is the first rank's, by torch's
count, and its prediction that of the largest stage; a step's time is the median after the first five.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import torch

from benchmarks.figure import Figure, print_figure
from qad_core.commands.experiment import run_folder_of
from qad_core.commands.output import console
from qad_core.config.forecast import Forecast, forecast_run
from qad_core.config.load import load_experiment
from qad_core.run.metrics import MetricsLine, read_metrics

WARM_UP_STEPS = 5
PATIENCE_SECONDS = 150
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Case:
    """A run to predict."""

    name: str
    overrides: tuple[str, ...]
    gpus: int = 1


DENSE, MIXTURE = "model=qwen3-1.7b", "model=qwen3-30b-a3b"
ONE_RANK, FEW_LAYERS = "parallelism=one-rank", "model.architecture.num_layers=2"
CASES = (
    Case("Qwen3-1.7B, micro-batch 2", (DENSE, ONE_RANK, "train.micro_batch_size=2")),
    Case("Qwen3-1.7B, micro-batch 4", (DENSE, ONE_RANK, "train.micro_batch_size=4")),
    Case(
        "Qwen3-1.7B, micro-batch 4, recomputed", (DENSE, ONE_RANK, "train.micro_batch_size=4", "train.recompute=full")
    ),
    Case("2 layers of Qwen3-30B-A3B, micro-batch 2", (MIXTURE, ONE_RANK, FEW_LAYERS, "train.micro_batch_size=2")),
    Case("Qwen3-1.7B, TP 2, micro-batch 4", (DENSE, "parallelism=tp2", "train.micro_batch_size=4"), 2),
    Case("Qwen3-1.7B, DP 2, micro-batch 2", (DENSE, "parallelism=dp2", "train.micro_batch_size=2"), 2),
    Case(
        "2 layers of Qwen3-30B-A3B, EP 2, micro-batch 2",
        (
            MIXTURE,
            FEW_LAYERS,
            "parallelism=dp2",
            "parallelism.expert_model_parallel_size=2",
            "train.micro_batch_size=2",
        ),
        2,
    ),
)


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--gpus", type=int, help="only the cases of so many GPUs")
    parser.add_argument("--only", default="", help="only the cases with this in their names")
    parser.add_argument("--json", type=Path, help="file to write the figure to")
    arguments = parser.parse_args()
    there = torch.cuda.device_count()
    chosen = [case for case in CASES if case.gpus <= there and arguments.gpus in (None, case.gpus)]
    chosen = [case for case in chosen if arguments.only in case.name]
    if not chosen:
        print(f"nothing was measured: there are {there} GPUs", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        rows: list[tuple[str, ...]] = []
        for case in chosen:
            rows.append(row_of(case, *measure(case, Path(folder), arguments.steps)))
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    figure = Figure(
        title=f"Predicted and measured, sequence 4096, on {torch.cuda.get_device_name()}",
        columns=("run", ">predicted GiB", ">measured", ">ratio", ">predicted ms a step", ">measured", ">ratio"),
        rows=tuple(rows),
        sentences=("Medians of the steps after the first five; memory is the first rank's peak.",),
        data={"rows": rows},
    )
    print_figure(figure, console())
    if arguments.json:
        arguments.json.write_text(figure.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def measure(case: Case, root: Path, steps: int) -> tuple[Forecast, Sequence[MetricsLine]]:
    """The forecast of the run, and the lines of its steps; fewer than `steps` where it failed or took too long."""
    overrides = [
        *case.overrides,
        "cluster=local",
        "dataset=python-stdlib",
        "model.weights=random",
        "model.tokenizer=bytes",
        f"cluster.processes_per_node={case.gpus}",
        "train.global_batch_size=8",
        "train.train_samples=8000",
        "evaluation.sequences=8",
        "evaluation.interval=0",
        "checkpoint.interval=0",
        "quantization.calibration_sequences=8",
        f"paths.checkpoint_root={root}",
        f"paths.data_cache={root / 'data_cache'}",
        f"tag={CASES.index(case)}",
    ]
    config = load_experiment("blank", overrides).config
    forecast = forecast_run(config)
    assert forecast is not None
    command = [sys.executable, "-W", "ignore", "-m", "qad_core.cli", "train", "blank", *overrides]
    output = root / f"{CASES.index(case)}.txt"
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        lines = _await_steps(process, run_folder_of(config).metrics, steps)
    if len(lines) < steps:
        print(f"{case.name}: {len(lines)} steps\n{output.read_text()[-1500:]}", file=sys.stderr)
    return forecast, lines


def _await_steps(process: subprocess.Popen[bytes], metrics: Path, steps: int) -> list[MetricsLine]:
    """Lines of training steps; the process and its ranks are ended once there are enough."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    lines: list[MetricsLine] = []
    while len(lines) < steps and process.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        if metrics.exists():
            lines = [line for line in read_metrics(metrics) if line.get("step_ms")]
    _kill(process)
    return lines


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the command and its ranks, which are in sessions of their own, at once: told to stop, they would save."""
    if process.poll() is None:
        for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def row_of(case: Case, forecast: Forecast, lines: Sequence[MetricsLine]) -> tuple[str, ...]:
    """One row of the table."""
    predicted_gib = forecast.memory.allocated / 2**30
    predicted_ms = 1000 * (forecast.cost.seconds_per_step or float("nan"))
    if len(lines) <= WARM_UP_STEPS:
        return case.name, f"{predicted_gib:.1f}", "failed", "", f"{predicted_ms:.0f}", "failed", ""
    gib = max(float(line["memory_gib"] or 0) for line in lines)
    ms = median(float(line["step_ms"] or 0) for line in lines[WARM_UP_STEPS:])
    return (
        case.name,
        f"{predicted_gib:.1f}",
        f"{gib:.1f}",
        f"{predicted_gib / gib:.2f}",
        f"{predicted_ms:.0f}",
        f"{ms:.0f}",
        f"{predicted_ms / ms:.2f}",
    )


if __name__ == "__main__":
    sys.exit(main())
