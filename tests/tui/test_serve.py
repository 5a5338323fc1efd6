"""`qad-tui --serve`: the screen in a browser, for this machine alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

PATIENCE_SECONDS = 60.0


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def served(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a person starts it, once it answers."""
    argv = [sys.executable, "-m", "qad_tui", str(tmp_path), "--serve", "--port", str(port)]
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "QAD_TUI_HOME": str(tmp_path)}
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answers("127.0.0.1", port):
        assert process.poll() is None and time.monotonic() < deadline, "it does not serve"
        time.sleep(0.05)
    yield process
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE_SECONDS)


def answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.usefixtures("served")
def test_the_page_is_served_on_127_0_0_1_and_on_no_other_address(port: int) -> None:
    with urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE_SECONDS) as page:
        assert page.status == 200 and "qad-tui" in page.read().decode()
    assert not answers("127.0.0.2", port), "a server on every address would answer on this one too"
