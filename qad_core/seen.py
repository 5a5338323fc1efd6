"""Whether something is at a path that a person wrote, as far as we may see.

Unlike pathlib's own, these raise nothing: what may not be looked at, and what no file can be called (a name of 300
characters, a NUL), is not there.
"""

from __future__ import annotations

import os
from pathlib import Path


def is_there(path: Path | str) -> bool:
    """Whether anything is there."""
    return os.path.exists(path)


def is_file(path: Path | str) -> bool:
    """Whether a file is there."""
    return os.path.isfile(path)


def is_folder(path: Path | str) -> bool:
    """Whether a folder is there."""
    return os.path.isdir(path)


def is_locked(path: Path | str) -> bool:
    """Whether the system keeps from us what is there, if anything is."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        pass
    return False
