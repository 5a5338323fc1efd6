"""A rank without a model, `FOLDER MODE`: it writes `rank<N>.json` with its environment, then behaves as it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType


def behave(folder: Path, mode: str) -> int:
    """`exit=R:CODE,...` ends rank R with a code; `save` waits and answers a signal with 3; `deaf` only waits."""
    rank = int(os.environ["RANK"])
    if mode == "save":
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, _save_and_leave)
    temporary = folder / f"rank{rank}.tmp"
    temporary.write_text(json.dumps({**os.environ, "pid": str(os.getpid())}))
    temporary.rename(folder / f"rank{rank}.json")
    if mode.startswith("exit="):
        codes = dict(pair.split(":") for pair in mode.removeprefix("exit=").split(","))
        if str(rank) in codes:
            return int(codes[str(rank)])
    if mode == "print":
        print("words of a rank")
        return 1
    time.sleep(30)
    return 0


def _save_and_leave(number: int, frame: FrameType | None) -> None:
    sys.exit(3)


if __name__ == "__main__":
    sys.exit(behave(Path(sys.argv[1]), sys.argv[2]))
