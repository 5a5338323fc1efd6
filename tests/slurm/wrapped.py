"""SLURM's commands with something in their way, as a user's PATH finds them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tests.slurm.tiny_chain import LoginNode

_WRAPPER = """\
#!/bin/bash
real={real} here={here}
case " $* " in *" --test-only "*) exec "$real" "$@" ;; esac
call=$(($(cat "$here/{name}.calls" 2>/dev/null || echo 0) + 1))
echo "$call" >"$here/{name}.calls"
{body}
exec "$real" "$@"
"""


def wrap(login: LoginNode, name: str, body: str) -> Path:
    """Put lines of bash before a command; `$call` counts the calls, `$real` is it, `$here` the folder returned.

    What sbatch is asked with --test-only is left alone.
    """
    folder = login.root.parent / "bin"
    folder.mkdir(exist_ok=True)
    real = shutil.which(name)
    assert real is not None
    wrapper = folder / name
    wrapper.write_text(_WRAPPER.format(real=real, here=folder, name=name, body=body))
    wrapper.chmod(0o755)
    login.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    return folder


def unwrap(login: LoginNode) -> None:
    """Let the commands be themselves again."""
    login.environ.pop("PATH", None)


def wait_for_file(path: Path) -> None:
    """Poll until there is a file."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.1)
