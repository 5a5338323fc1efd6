"""How a command that we advise names a run: so that the reader can paste it where they are.

Pure but for a look at the disk.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from qad_core.config.schema import PathsConfig
from qad_core.run.folder import RunFolder
from qad_core.run.run_paths import is_run_folder


def address(folder: RunFolder, environ: Mapping[str, str] | None = None) -> str:
    """The run's name where commands find it by that without --root, else its path; quoted for a shell."""
    environ = os.environ if environ is None else environ
    here = Path(folder.name)
    root = Path(environ.get("QAD_CHECKPOINT_ROOT") or PathsConfig().checkpoint_root)
    meant = here if is_run_folder(here) else root / folder.name
    path = folder.path.absolute()
    return shlex.quote(folder.name if meant.absolute() == path else str(path))
