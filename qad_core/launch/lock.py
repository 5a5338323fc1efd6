"""One launcher a run folder: a lock that the kernel lets go of when the last process of the run has died.

The ranks inherit the locked file, so a folder stays taken while any of them lives, even when their
launcher was killed. Where the file system has no locks, SLURM's dependencies alone keep the links of a chain apart.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

from qad_core.errors import BusyError, ExitCode, RunError
from qad_core.file_lock import read_holder, sign_lock, take_lock
from qad_core.run.folder import RunFolder

RETRY_SECONDS = 1.0


class StillBusyError(BusyError):
    """The folder was not freed in the time that was given: for a job, something outside that may pass."""

    exit_code = ExitCode.OUTSIDE_FAILED


@contextlib.contextmanager
def locked_folder(
    folder: RunFolder, *, patience_seconds: float = 0.0, give_up: Callable[[], bool] = lambda: False
) -> Generator[int]:
    """Hold the folder's lock; yields the file descriptor that ranks inherit.

    Waits for it as long as the patience lasts and `give_up` does not say otherwise, and prints that it does.
    Raises BusyError naming the holder when another start of this run lives, as StillBusyError after a wait, and
    RunError when the folder cannot be written to.
    """
    with _locked(
        folder,
        folder.lock,
        "is running already",
        "Wait for its end, stop it (kill -TERM PID saves first), or keep the runs apart with --tag.",
        patience_seconds,
        give_up,
    ) as descriptor:
        yield descriptor


@contextlib.contextmanager
def locked_submission(folder: RunFolder) -> Generator[None]:
    """Keep two submissions of one run apart; raises as `locked_folder`."""
    with _locked(folder, folder.submit_lock, "is being submitted already", "Wait for that submission's end."):
        yield


@contextlib.contextmanager
def _locked(
    folder: RunFolder,
    path: Path,
    busy: str,
    hint: str,
    patience_seconds: float = 0.0,
    give_up: Callable[[], bool] = lambda: False,
) -> Generator[int]:
    descriptor = _open_lock(folder, path)
    try:
        began = time.monotonic()
        waits = False
        while not take_lock(descriptor):
            message = f"The run {folder.name} {busy} ({read_holder(descriptor)})."
            if not patience_seconds:
                raise BusyError(message, hint)
            if give_up() or time.monotonic() >= began + patience_seconds:
                raise StillBusyError(f"{message} Waited {time.monotonic() - began:.0f} s for its end.", hint)
            if not waits:
                print(f"{message} Waiting up to {patience_seconds:.0f} s for its end.", flush=True)
            waits = True
            time.sleep(RETRY_SECONDS)
        sign_lock(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_lock(folder: RunFolder, path: Path) -> int:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunError(
            f"The run folder {folder.path} cannot be written to: {error.strerror}.",
            "Choose another with paths.checkpoint_root=FOLDER (or QAD_CHECKPOINT_ROOT), or free it.",
        ) from error
