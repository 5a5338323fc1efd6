"""Files and folders that this process may not open, whoever runs the tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def reachable_folder() -> Generator[Path]:
    """A temporary folder that every user may look into; pytest's own are closed to all but one."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Take from this process the rights to a path in a `reachable_folder`; root, who needs none, is nobody then."""
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)
