"""SLURM's walltimes: `90`, `30:00`, `4:00:00`, `1-12`, `1-12:30`, `1-12:30:00`.

Owns their syntax (man sbatch, --time). `UNLIMITED` is none of them: a link without an end cannot be
told to save before it.
"""

from __future__ import annotations

import re

from qad_core.run.redact import shorten

_FORMS = (
    (re.compile(r"([0-9]+)"), (60,)),
    (re.compile(r"([0-9]+):([0-9]+)"), (60, 1)),
    (re.compile(r"([0-9]+):([0-9]+):([0-9]+)"), (3600, 60, 1)),
    (re.compile(r"([0-9]+)-([0-9]+)"), (86400, 3600)),
    (re.compile(r"([0-9]+)-([0-9]+):([0-9]+)"), (86400, 3600, 60)),
    (re.compile(r"([0-9]+)-([0-9]+):([0-9]+):([0-9]+)"), (86400, 3600, 60, 1)),
)

_LONGEST_TEXT = 40
LONGEST_SECONDS = 365 * 86400
"""The longest that SLURM shows: squeue calls more INVALID, and from 2**31 s on sbatch takes the number for a short
time or for none (seen on 22.05)."""


def seconds_of_time_limit(text: str) -> int:
    """Seconds of a walltime; raises ValueError when it is none, not above 0, or longer than SLURM takes."""
    for form, units in _FORMS:
        if len(text) <= _LONGEST_TEXT and (match := form.fullmatch(text.strip())):
            seconds = sum(int(part) * unit for part, unit in zip(match.groups(), units, strict=True))
            if seconds > LONGEST_SECONDS:
                raise ValueError(f"{text!r} is longer than 365-00:00:00, the longest walltime that SLURM takes")
            if seconds > 0:
                return seconds
    raise ValueError(
        f"{shorten(text, _LONGEST_TEXT)!r} is no walltime: write minutes, hours:minutes:seconds or "
        "days-hours:minutes:seconds, at most 365-00:00:00"
    )


def check_time_limit(text: str) -> str:
    """The text without spaces around it; raises ValueError as `seconds_of_time_limit`."""
    seconds_of_time_limit(text)
    return text.strip()
