"""What `scontrol show job` prints, as names and values.

Pure. The form with lines is read and not that of one line (-o): there a job's name can hold what looks like the
next field, here a name or comment goes to the end of its line. Only the first job of an array is read.
"""

from __future__ import annotations

import re

_FIELD = re.compile(r"([A-Za-z][\w:/.]*)=")
_TO_LINE_END = frozenset(
    {
        "JobName",
        "Comment",
        "AdminComment",
        "SystemComment",
        "Extra",
        "Command",
        "SubmitLine",
        "WorkDir",
        "StdErr",
        "StdIn",
        "StdOut",
    }
)


def parse_job_details(text: str) -> dict[str, str]:
    """The fields of the first job: `JobState`, `Restarts`, `StdOut`, ... as scontrol writes their values."""
    fields: dict[str, str] = {}
    for line in text.split("\n\n")[0].splitlines():
        rest = line.strip()
        while found := _FIELD.match(rest):
            name, rest = found[1], rest[found.end() :]
            value, _, after = (rest, "", "") if name in _TO_LINE_END else rest.partition(" ")
            fields.setdefault(name, value.strip())
            rest = after.lstrip()
    return fields
