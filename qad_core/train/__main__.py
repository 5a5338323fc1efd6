"""Entry of one rank: `python -m qad_core.train RUN_FOLDER`, under torchrun or the launcher.

Reads the run folder's resolved config and nothing else of the user's. Errors are caught here, once:
a `QadError` becomes its message and exit code, anything else is our own bug and exits 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qad_core.config.schema import RunConfig
    from qad_core.errors import QadError
    from qad_core.run.folder import RunFolder
    from qad_core.train.report import Reporter

STARTED = time.time()


def main(argv: Sequence[str] | None = None, *, started: float = STARTED) -> int:
    """Train, or evaluate only; returns the exit code. `started` is the Unix time at which this process began."""
    arguments = _parse_arguments(argv)
    from qad_core.config.load import read_resolved
    from qad_core.errors import BugError, QadError, explain_os_error
    from qad_core.run.folder import RunFolder
    from qad_core.train.no_cuda import install_cpu_stand_ins

    folder = RunFolder(Path(arguments.run_folder).resolve())
    install_cpu_stand_ins()
    from qad_core.train.report import Reporter, log

    try:
        config = read_resolved(folder.config).config
        reporter = Reporter(folder, config, rank=int(os.environ.get("RANK", "0")), started=started)
    except (QadError, OSError) as error:
        explained = error if isinstance(error, QadError) else explain_os_error(error)
        print(f"error: {explained}", file=sys.stderr)
        return explained.exit_code
    try:
        return _run(config, folder, reporter, started=started, evaluate_only=arguments.evaluate_only)
    except Exception as error:
        explained = explain_error(error)
        if explained is None:
            log.exception("this is a bug in the trainer")
            explained = BugError(f"{type(error).__name__}: {error}")
        with contextlib.suppress(OSError):  # the disk that failed may be this folder's; the launcher then says so
            reporter.ended("failed", exit_code=explained.exit_code, error=explained.message, hint=explained.hint)
        return explained.exit_code


def explain_error(error: Exception) -> QadError | None:
    """The error as one that the user can act on; None for a bug of ours."""
    from qad_core.errors import ConfigError, QadError, explain_os_error

    if isinstance(error, QadError):
        return error
    if isinstance(error, OSError):
        return explain_os_error(error)
    if is_out_of_memory(error):
        first = str(error).splitlines()[:1] or ["MemoryError"]
        return ConfigError(
            f"memory ran out: {first[0]}",
            "Take a smaller train.micro_batch_size or train.sequence_length, train.recompute=full, or a larger TP.",
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _run(config: RunConfig, folder: RunFolder, reporter: Reporter, *, started: float, evaluate_only: bool) -> int:
    from qad_core.train.loop import evaluate_newest, train
    from qad_core.train.parallel import initialize_parallel, shut_down_parallel
    from qad_core.train.session import build_session
    from qad_core.train.stop import StopWatch

    context = initialize_parallel(
        config.parallelism,
        device=config.cluster.device,
        precision=config.train.precision,
        seed=config.train.seed,
        timeout_minutes=config.train.distributed_timeout_minutes,
    )
    stop = StopWatch(config.train, context, started=started)
    stop.listen()
    session = build_session(config, context, folder, reporter)
    code = evaluate_newest(session) if evaluate_only else train(session, folder, stop)
    shut_down_parallel()
    return code


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qad_core.train", description=__doc__)
    parser.add_argument("run_folder", help="run folder with a resolved config.yaml")
    parser.add_argument("--evaluate-only", action="store_true", help="evaluate the newest checkpoint and exit")
    return parser.parse_args(argv)


# megatron-core's checkpoint writer spawns processes that import this module again.
if __name__ == "__main__":
    sys.exit(main())
