"""A folder that appears whole: filled under another name and renamed at the end.

Owns the unfinished folder, its lock, and what a writer that was killed has left of one. A folder that a person has made
is never removed: it may be a mount point or a link, so it is filled from a folder inside.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from qad_core.errors import BusyError, OutsideError, RunError
from qad_core.file_lock import take_lock
from qad_core.run.folder import TRACKER_NAME
from qad_core.seen import is_file, is_folder, is_there

SUFFIX = ".partial"
_MARK = ".unfinished"
"""Locked file in an unfinished folder: by it we know that it is ours, and that its writer lives."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def refuse_taken(out: Path) -> None:
    """Raise RunError where something lies at `out` that is no empty folder."""
    if is_folder(out):
        if any(child.name != SUFFIX for child in out.iterdir()):
            raise RunError(f"{out} is there and not empty", "Name another folder, or remove this one.")
    elif is_there(out) or out.is_symlink():
        raise RunError(f"{out} is there, and no folder", "Name another place, or remove what is there.")


def refuse_anything_at(out: Path) -> None:
    """Raise RunError where anything lies at `out`, an empty folder too."""
    if out.exists() or out.is_symlink():
        raise RunError(f"{out} is there already.", "Name another --out, or remove it.")


@contextmanager
def new_folder(out: Path) -> Generator[Path]:
    """Yield an empty folder to fill, which is `out` once the block has ended and is removed when it fails.

    What an earlier writer has left unfinished is removed. Raises RunError as `refuse_taken`, and for an unfinished
    folder that is not ours; BusyError while another process fills it; and OutsideError, which names the folder, where
    the block fails because the disk is full.
    """
    refuse_taken(out)
    unfinished = out / SUFFIX if is_folder(out) else out.with_name(out.name + SUFFIX)
    _remove_leftover(unfinished)
    unfinished.mkdir(parents=True)
    mark = os.open(unfinished / _MARK, os.O_CREAT | os.O_RDWR)
    try:
        take_lock(mark)
        with _named_when_full(unfinished):
            yield unfinished
        (unfinished / _MARK).unlink()
        _move(unfinished, out)
    finally:
        os.close(mark)
        shutil.rmtree(unfinished, ignore_errors=True)


def set_aside(unfinished: Path, place: Path) -> None:
    """Keep what a block of `new_folder` has written under another name, in place of what lies there; then fail."""
    shutil.rmtree(place, ignore_errors=True)
    unfinished.rename(place)
    (place / _MARK).unlink()


@contextmanager
def _named_when_full(unfinished: Path) -> Generator[None]:
    """Writing into a file that is open fails without its name."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        raise OutsideError(
            f"{unfinished} could not be written: {error.strerror}", "Free disk space, or name a folder on another disk."
        ) from error


def _remove_leftover(unfinished: Path) -> None:
    if not is_there(unfinished):
        return
    if not is_file(unfinished / _MARK):
        raise RunError(f"{unfinished} is in the way", "Remove it, or name another place.")
    mark = os.open(unfinished / _MARK, os.O_RDWR)
    try:
        if not take_lock(mark):
            raise BusyError(f"{unfinished} is being written by another process", "Wait for its end.")
        shutil.rmtree(unfinished)
    finally:
        os.close(mark)


def _move(unfinished: Path, out: Path) -> None:
    if not is_folder(out):
        unfinished.rename(out)
        return
    for child in sorted(unfinished.iterdir(), key=lambda child: child.name == TRACKER_NAME):  # what counts comes last
        child.rename(out / child.name)
