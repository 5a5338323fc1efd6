"""Tiny real runs for the trainer's tests: a run folder, its tokens, and ranks as processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from qad_core.config.load import dump_resolved, load_experiment
from qad_core.run.folder import RunFolder
from qad_core.run.metrics import MetricsLine, read_metrics
from tests.ranks import find_free_port

REPOSITORY = Path(__file__).parents[2]
TIMES = ("time", "step_ms", "tokens_per_s", "memory_gib")
"""Keys of a metrics line that no two runs share."""
MODEL = "tiny"

SHORT = ("train.train_samples=64", "train.sequence_length=32", "evaluation.sequences=4", "evaluation.interval=4")
"""Overrides of the tiny experiment: 8 steps of 8 sequences of 32 tokens."""


def make_run(folder: Path, data_cache: Path, overrides: Sequence[str] = ()) -> RunFolder:
    """A run folder with its config, and the tokens in `data_cache`, which tests share."""
    resolved = load_experiment("tiny", [*SHORT, *overrides, f"paths.data_cache={data_cache}"], {})
    run = RunFolder(folder)
    run.logs.mkdir(parents=True, exist_ok=True)
    run.config.write_text(dump_resolved(resolved), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "qad_core.data", "prepare", str(run.config)],
        check=True,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )
    return run


def start_ranks(
    run: RunFolder, world_size: int = 1, *, file_size_limit: int | None = None
) -> list[subprocess.Popen[bytes]]:
    """Start the trainer's ranks as a launcher does; what they print goes to the run's logs."""
    port = str(find_free_port())
    processes: list[subprocess.Popen[bytes]] = []
    for rank in range(world_size):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
        }
        with (run.logs / f"output_rank{rank}.txt").open("ab") as output:
            command = [sys.executable, "-m", "qad_core.train", str(run.path)]
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=REPOSITORY,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    preexec_fn=partial(_limit_file_size, file_size_limit),
                )
            )
    return processes


def train(run: RunFolder, world_size: int = 1, *, file_size_limit: int | None = None) -> int:
    """Train to the end; returns the worst exit code. A file that grows past the limit fails as on a full disk."""
    return max(process.wait() for process in start_ranks(run, world_size, file_size_limit=file_size_limit))


def kill_at_step(run: RunFolder, step: int, number: signal.Signals = signal.SIGKILL) -> int:
    """Start one rank, send it a signal once it has reported `step`, and return its exit code."""
    (process,) = start_ranks(run)
    while process.poll() is None and last_step(run) < step:
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait()


def last_step(run: RunFolder) -> int:
    """The newest step in the metrics, or -1."""
    return max((int(line["step"] or 0) for line in read_metrics(run.metrics)), default=-1)


def comparable_metrics(run: RunFolder) -> list[MetricsLine]:
    """All metrics lines without what no two runs share."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in read_metrics(run.metrics)]


def losses_of(run: RunFolder) -> list[float]:
    """KD loss of each training step."""
    return [float(line["loss/kd"] or 0.0) for line in read_metrics(run.metrics) if "loss/kd" in line]


def gradient_norms_of(run: RunFolder) -> list[float]:
    """Gradient norm of each training step: Adam forgives a gradient that is off by a factor, this does not."""
    return [float(line["grad_norm"] or 0.0) for line in read_metrics(run.metrics) if "grad_norm" in line]


def output_of(run: RunFolder) -> str:
    """What the ranks printed, for a failing assertion."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(run.logs.glob("output_rank*.txt")))[-4000:]


def _limit_file_size(limit: int | None) -> None:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
