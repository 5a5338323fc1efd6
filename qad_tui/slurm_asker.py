"""Asks SLURM in a thread of its own, one question at a time, and tells the application what came of it.

The thread is a daemon and no worker of Textual's: a squeue that hangs keeps nobody from leaving.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from qad_tui.slurm_watch import SlurmSnapshot, SlurmWatch, Wish


class SlurmAsker:
    """Single flight over a SlurmWatch; all methods are for one thread, that of the screen."""

    def __init__(self, watch: SlurmWatch, tell: Callable[[SlurmSnapshot | Exception], object]) -> None:
        """`tell` is called in the other thread with each snapshot, or with what our own bug raised."""
        self._watch = watch
        self._tell = tell
        self._thread: threading.Thread | None = None

    @property
    def is_asking(self) -> bool:
        """Whether a question is under way."""
        return self._thread is not None and self._thread.is_alive()

    def ask_when_due(self, wish: Wish) -> None:
        """Ask, where it is time and nothing is under way."""
        if not self.is_asking and self._watch.is_due(wish):
            self._start(wish)

    def ask_now(self, wish: Wish) -> bool:
        """Ask by a key; False where that may not be yet, or is under way."""
        if self.is_asking or not self._watch.may_ask():
            return False
        self._start(wish)
        return True

    def _start(self, wish: Wish) -> None:
        self._thread = threading.Thread(target=self._ask, args=(wish,), name="slurm", daemon=True)
        self._thread.start()

    def _ask(self, wish: Wish) -> None:
        try:
            for snapshot in self._watch.look(wish):
                self._say(snapshot)
        except Exception as error:  # a bug of ours is shown where bugs are shown, and not lost in a thread
            self._say(error)

    def _say(self, news: SlurmSnapshot | Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the screen was left meanwhile, and its event loop with it
            self._tell(news)
