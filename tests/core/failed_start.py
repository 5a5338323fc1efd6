"""The logs of one failed start as files: one rank with the cause, the others with what followed from it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from qad_core.config.load import load_experiment
from qad_core.config.schema import RunConfig
from qad_core.run.failure import Failure, find_failure
from qad_core.run.status import Status

STAMP = "2026-11-25_12-00-00"
STARTED = time.mktime((2026, 11, 25, 12, 0, 0, 0, 0, -1))

GLOO_CLOSED = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
    "[10.0.0.3]:54992. This is typically caused by a remote worker crashing."
)
NCCL_WATCHDOG = (
    "[rank{rank}]:[E1125 12:{minute:02d}:08.408271257 ProcessGroupNCCL.cpp:616] [Rank {rank}] Watchdog caught "
    "collective operation timeout: WorkNCCL(SeqNum={number}, OpType=ALLREDUCE, NumelIn=466119168, NumelOut=466119168, "
    "Timeout(ms)=600000) ran for 600060 milliseconds before timing out.\n"
    "[rank{rank}]:[E1125 12:{minute:02d}:08.518271257 ProcessGroupNCCL.cpp:1785] [PG ID 0 PG GUID 0(default_pg) Rank "
    "{rank}] Exception (either an error or timeout) detected by watchdog at work: {number}, last enqueued NCCL work: "
    "{number}, last completed NCCL work: {number}.\n"
    "terminate called after throwing an instance of 'c10::DistBackendError'\n"
)


def traceback_of(*exceptions: str, by: str = "direct") -> str:
    """A traceback as CPython prints it, of exceptions that led to each other, or came `by` handling each other."""
    words = {
        "direct": "The above exception was the direct cause of the following exception:",
        "handling": "During handling of the above exception, another exception occurred:",
    }[by]
    frames = 'Traceback (most recent call last):\n  File "/app/loader.py", line 12, in read\n    go()\n    ^^^^\n'
    return f"\n\n{words}\n\n".join(f"{frames}{exception}" for exception in exceptions) + "\n"


def record(text: str, *, at: str = "12:00:30,000", level: str = "ERROR") -> str:
    """A line of a rank's log."""
    return f"2026-11-25 {at} {level} {text}\n"


def watchdog(rank: int, *, number: int = 1580, minute: int = 10) -> str:
    """What NCCL's watchdog prints, minutes after the start."""
    return NCCL_WATCHDOG.format(rank=rank, number=number, minute=minute)


def write_logs(folder: Path, texts: Mapping[str, str | bytes], *, seconds: float = 3600) -> list[Path]:
    """Files of these names, last changed so long after the start."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, text in texts.items():
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.utime(path, (STARTED + seconds, STARTED + seconds))
        paths.append(path)
    return paths


def write_start(folder: Path, cause: str, *, rank: int = 2, ranks: int = 4) -> list[Path]:
    """A start of several ranks in which one prints the cause and all others, earlier in the files, what followed."""
    followed = traceback_of(GLOO_CLOSED) + watchdog(0)
    texts = {output_name(other): cause if other == rank else followed for other in range(ranks)}
    return write_logs(folder, texts)


def output_name(rank: int, node: int | None = None) -> str:
    """Name of what a rank prints."""
    where = "" if node is None else f"_node{node}"
    return f"output_{STAMP}{where}_rank{rank}.out"


def log_name(rank: int) -> str:
    """Name of a rank's log."""
    return f"tiny_qad_{STAMP}{f'_rank{rank}' if rank else ''}.log"


def tiny(*overrides: str) -> RunConfig:
    """The tiny experiment on this machine."""
    return load_experiment("tiny", overrides, {}).config


def on_slurm(*overrides: str) -> RunConfig:
    """The tiny experiment as a job."""
    return tiny("cluster.kind=slurm", *overrides)


def failure_of(logs: list[Path], config: RunConfig | None = None, status: Status | None = None) -> Failure:
    """The card of a start that failed."""
    found = find_failure(logs, config, status)
    assert found is not None
    return found
