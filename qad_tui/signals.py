"""Signals that end the application: it ends as by `q`, so that the terminal is left as it was found.

Owns what happens when the terminal itself is gone: nobody is written to then, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import termios
from typing import Any

from textual.app import App

ENDING = (signal.SIGTERM, signal.SIGHUP)
_STANDARD_STREAMS = (0, 1, 2)


def end_by_signals(app: App[Any]) -> None:
    """Have SIGTERM and SIGHUP end the application, with the exit code that shells give them."""
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, _end, app, number)


def _end(app: App[Any], number: int) -> None:
    if not _terminal_is_there():
        _write_to_nobody()
    app.exit(return_code=128 + number)


def _terminal_is_there() -> bool:
    try:
        termios.tcgetattr(0)
    except termios.error:
        return False
    return True


def _write_to_nobody() -> None:
    nobody = os.open(os.devnull, os.O_RDWR)
    for stream in _STANDARD_STREAMS:
        os.dup2(nobody, stream)
