"""SLURM's walltimes: `90`, `30:00`, `4:00:00`, `1-12`, `1-12:30`, `1-12:30:00`.

Owns their syntax (man sbatch, --time). `UNLIMITED` is none of them: a link without an end cannot be
told to save before it.
"""

from __future__ import annotations

import re

_FORMS = (
    (re.compile(r"(\d+)"), (60,)),
    (re.compile(r"(\d+):(\d+)"), (60, 1)),
    (re.compile(r"(\d+):(\d+):(\d+)"), (3600, 60, 1)),
    (re.compile(r"(\d+)-(\d+)"), (86400, 3600)),
    (re.compile(r"(\d+)-(\d+):(\d+)"), (86400, 3600, 60)),
    (re.compile(r"(\d+)-(\d+):(\d+):(\d+)"), (86400, 3600, 60, 1)),
)


def seconds_of_time_limit(text: str) -> int:
    """Seconds of a walltime; raises ValueError when it is none or not above 0."""
    for form, units in _FORMS:
        if match := form.fullmatch(text.strip()):
            seconds = sum(int(part) * unit for part, unit in zip(match.groups(), units, strict=True))
            if seconds > 0:
                return seconds
    raise ValueError(f"{text!r} is no walltime: write minutes, hours:minutes:seconds or days-hours:minutes:seconds")


def check_time_limit(text: str) -> str:
    """The text itself; raises ValueError as `seconds_of_time_limit`."""
    seconds_of_time_limit(text)
    return text
