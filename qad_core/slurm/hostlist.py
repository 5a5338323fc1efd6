"""SLURM's short form of host names, `node[1-3,7],gpu[01-02]-ib0`, expanded without a command.

As `scontrol show hostnames` does; man slurm.conf, NodeName. Pure.
"""

from __future__ import annotations

import itertools
import re

_PARTS = re.compile(r"[^,\[\]]+|\[[^\[\]]*\]|,")


def expand_hosts(text: str) -> list[str]:
    """The host names in their order; none for an empty text. Raises ValueError for what is no host list."""
    parts = _PARTS.findall(text)
    if "".join(parts) != text:
        raise ValueError(f"{text!r} is no list of hosts")
    hosts: list[str] = []
    for comma, group in itertools.groupby(parts, lambda part: part == ","):
        if not comma:
            hosts += map("".join, itertools.product(*(_choices(part) for part in group)))
    return hosts


def _choices(part: str) -> list[str]:
    if not part.startswith("["):
        return [part]
    return [number for item in part[1:-1].split(",") for number in _numbers(item)]


def _numbers(item: str) -> list[str]:
    """`7` or `08-11`; leading zeros are kept."""
    first, dash, last = item.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise ValueError(f"{item!r} is no range of hosts")
    if not dash:
        return [first]
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
