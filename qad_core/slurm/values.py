"""The values in SLURM's text output: times, durations, exit codes, counts of GPUs, and its words for nothing.

Pure. What is seen on 22.05 is read, and what newer versions print otherwise.
"""

from __future__ import annotations

import re
from functools import lru_cache

_NOTHING = frozenset({"", "(null)", "N/A", "n/a", "None", "none", "None assigned", "Unknown"})
_ALL_GPUS = re.compile(r"\bgres/gpu[=:](\d+)(?=,|$)")
_LEADING_NUMBER = re.compile(r"\d+")
_IN_PARENTHESES = re.compile(r"\([^)]*\)")


def text_or_nothing(text: str) -> str:
    """The text; empty where SLURM writes that there is none."""
    return "" if text in _NOTHING else text


def unix_time(text: str) -> float | None:
    """Unix seconds, as SLURM_TIME_FORMAT=%s has them printed; None for `N/A`, `Unknown`, and 0."""
    return float(text) or None if text.isdigit() else None


@lru_cache(maxsize=8192)
def seconds_of_duration(text: str) -> int | None:
    """Seconds of `M:SS`, `H:MM:SS` or `D-HH:MM:SS`; None for anything else: `UNLIMITED`, `infinite`, `INVALID`.

    These are the forms of output; those that a user may write for a walltime are in `config/time_limit.py`.
    """
    days, _, clock = text.rpartition("-")
    if ":" not in clock:
        return None
    try:
        hours, minutes, seconds = [0, *(int(part) for part in clock.split(":"))][-3:]
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    except ValueError:
        return None


@lru_cache(maxsize=8192)
def leading_number(text: str) -> int:
    """The number at the start of a text, such as the 2 of `2-4` nodes; 0 when there is none."""
    found = _LEADING_NUMBER.match(text)
    return int(found[0]) if found else 0


@lru_cache(maxsize=512)
def exit_status(text: str) -> tuple[int, int | None] | None:
    """Exit code and signal of a job; None for a text that is neither `CODE:SIGNAL` nor a wait status.

    squeue 22.05 prints the raw wait status (768 is exit code 3, 9 is SIGKILL), and from 23.02 on
    `CODE:SIGNAL`, as sacct always did.
    """
    code, colon, signal = text.partition(":")
    if not code.isdigit() or (colon and not signal.isdigit()):
        return None
    if colon:
        return int(code), int(signal) or None
    status = int(code)
    number = status & 0x7F
    return (0, number) if number else (status >> 8 & 0xFF, None)


@lru_cache(maxsize=8192)
def gpus_of_request(text: str) -> int:
    """GPUs in a list of trackable resources: `cpu=2,gres/gpu=4`, `gres:gpu:h100:2` (22.05), `gres/gpu:h100=2`.

    Where the total stands beside the same by type, the total counts.
    """
    if "gpu" not in text:
        return 0
    if total := _ALL_GPUS.search(text):
        return int(total[1])
    words = [re.split("[:/=]", token) for token in text.split(",")]
    return sum(_number_of(word[2:]) for word in words if word[:2] == ["gres", "gpu"])


@lru_cache(maxsize=8192)
def gpus_of_node(text: str) -> int:
    """GPUs in a node's list of generic resources: `gpu:h100:8(S:0-1),shard:4`, `gpu:h100:2(IDX:0,4)`."""
    words = [token.split(":") for token in _IN_PARENTHESES.sub("", text).split(",")]
    return sum(_number_of(word[1:]) for word in words if word[0] == "gpu")


def _number_of(words: list[str]) -> int:
    """The number of `[TYPE...][NUMBER]`; a missing one is 1. MIG's types begin with a digit: `1g.10gb`."""
    return int(words[-1]) if words and words[-1].isdigit() else 1
