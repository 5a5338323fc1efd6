"""Runs a test's function on several gloo ranks, each a process of its own."""

from __future__ import annotations

import os
import socket
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn


def run_on_ranks(function: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Call `function(*args)` on every rank with torchrun's environment set; return the ranks' answers in order.

    The function must be importable (top level of a module) and its answer picklable by `torch.save`. The
    first failing rank's traceback is raised here. Joining the process group is the function's own work.
    """
    with tempfile.TemporaryDirectory() as folder:
        spawn(_run_rank, (function, args, world_size, find_free_port(), folder), nprocs=world_size)
        return [torch.load(_answer_path(folder, rank), weights_only=False) for rank in range(world_size)]


def find_free_port() -> int:
    """A TCP port of this machine that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _run_rank(
    rank: int, function: Callable[..., Any], args: tuple[Any, ...], world_size: int, port: int, folder: str
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OMP_NUM_THREADS="1",
    )
    torch.set_num_threads(1)
    try:
        answer = function(*args)
    except BaseException:
        traceback.print_exc()
        raise
    torch.save(answer, _answer_path(folder, rank))


def _answer_path(folder: str, rank: int) -> Path:
    return Path(folder) / f"rank{rank}.pt"
