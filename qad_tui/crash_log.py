"""The traceback of a bug that ended the screen, kept for whoever is to mend it: a terminal forgets it."""

from __future__ import annotations

import time
import traceback
from pathlib import Path

from textual.worker import WorkerFailed

from qad_core import __version__

CRASH_NAME = "crash.log"
"""In the folder of the settings."""


def keep_crash(error: BaseException, home: Path) -> str:
    """Add the traceback to the log; one line on where it is."""
    path, cause = home / CRASH_NAME, error.error if isinstance(error, WorkerFailed) else error
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} qad-tui {__version__}\n"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{head}{''.join(traceback.format_exception(cause))}\n")
    except OSError as failure:
        return f"This is a bug of qad-tui; {path} cannot be written: {failure.strerror}"
    return f"This is a bug of qad-tui; its traceback is in {path}"
