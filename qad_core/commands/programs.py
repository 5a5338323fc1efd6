"""Our own programs as their user can call them from where he stands."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def name_program(name: str) -> str:
    """The bare name where it is on the PATH, else its file beside this Python, by the shorter path from here."""
    program = Path(sys.executable).with_name(name)
    if shutil.which(name) is not None or not program.is_file():
        return name
    below = Path(os.path.relpath(program))
    return str(program if ".." in below.parts else below)
