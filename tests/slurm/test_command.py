"""Commands that are run to their end or their timeout: none outlives a Ctrl-C. No cluster is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import Any

import psutil
import pytest

from qad_core.slurm.command import run_in_time


def test_ctrl_c_while_a_command_is_being_started_ends_that_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a second thread, as a test runner and the screen have them: the kernel may hand the signal to that one."""
    started: list[int] = []
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts deaf to it

    class InterruptedStart(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self.pid)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)  # until the other thread has taken it, where it does

    monkeypatch.setattr(subprocess, "Popen", InterruptedStart)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_in_time(["sleep", "60"], os.environ, 60)
        assert not psutil.pid_exists(started[0])
        with pytest.raises(KeyboardInterrupt):  # the next one is heard at once again
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        over.set()
        signal.signal(signal.SIGINT, heard)
