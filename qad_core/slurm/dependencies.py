"""What a job waits for, by its dependency as sbatch takes it and squeue shows it: in words, and short.

Pure. A link of a chain waits for all links before it, so that the list grows with the chain: those are said as one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

LINKS_BEFORE = "all links before it"
_ITEM = re.compile(r"(?P<kind>\w+?)(?::(?P<jobs>[\d_*+:]+))?(?:\((?P<state>\w+)\))?(?P<joint>[,?]|$)", re.ASCII)
_AWAITED = {
    "after": ("has started", "have started"),
    "afterany": ("has ended", "have ended"),
    "afterok": ("has ended well", "have ended well"),
    "afternotok": ("has failed", "have failed"),
    "aftercorr": ("has ended well in its same task", "have ended well in their same task"),
    "afterburstbuffer": ("has copied its data", "have copied their data"),
}
_SINGLETON = "no other job of this name runs"
_UNMET = "unfulfilled"


@dataclass(frozen=True)
class Awaited:
    """Jobs that are waited for in one way."""

    kind: str
    """`afterok`, ..., or `singleton`, which names no jobs."""
    jobs: tuple[str, ...]
    state: str
    """What SLURM adds when it is not just unfulfilled: `failed`."""
    either: bool
    """Whether it is enough for the next one to be fulfilled in its place."""


def dependency_words(dependency: str, before: Collection[str] = ()) -> str:
    """`job 10 has ended well and all links before it have ended`; a dependency that cannot be read as it is.

    `before` are the ids of the links before the one that waits.
    """
    awaited = _parse(dependency)
    if not awaited:
        return dependency
    words: list[str] = []
    for item, is_last in zip(awaited, [*[False] * (len(awaited) - 1), True], strict=True):
        words.append(_words(item, before))
        words += [] if is_last else ["or" if item.either else "and"]
    return " ".join(words)


def short_dependency(dependency: str, before: Collection[str] = ()) -> str:
    """The dependency as a cell of a table: `afterok:9, all links before it`; `afterany:1 and 7 more`."""
    awaited = _parse(dependency)
    return ", ".join(_short(item, before) for item in awaited) if awaited else dependency


def _parse(dependency: str) -> list[Awaited]:
    """Its parts, neighbours of one kind together; empty for what is none."""
    found: list[Awaited] = []
    at = 0
    while at < len(dependency):
        item = _ITEM.match(dependency, at)
        if item is None or (item["kind"] not in _AWAITED and item["kind"] != "singleton") or item.end() == at:
            return []
        jobs = tuple(job for job in (item["jobs"] or "").split(":") if job)
        state = item["state"] or _UNMET
        either = item["joint"] == "?"
        last = found[-1] if found else None
        alike = last is not None and not (either or last.either) and (last.kind, last.state) == (item["kind"], state)
        if last is not None and alike:
            found[-1] = Awaited(last.kind, (*last.jobs, *jobs), state, either)
        else:
            found.append(Awaited(item["kind"], jobs, state, either))
        at = item.end()
    return found


def _words(item: Awaited, before: Collection[str]) -> str:
    if item.kind == "singleton":
        return _SINGLETON
    one, many = _AWAITED[item.kind]
    if _is_chain(item, before):
        return f"{LINKS_BEFORE} {many}"
    if len(item.jobs) == 1:
        return f"job {item.jobs[0]} {one}"
    return f"jobs {_listed(item.jobs, ' and ')} {many}"


def _short(item: Awaited, before: Collection[str]) -> str:
    if _is_chain(item, before):
        return LINKS_BEFORE
    jobs = f":{_listed(item.jobs, ':')}" if item.jobs else ""
    return f"{item.kind}{jobs}{f'({item.state})' if item.state != _UNMET else ''}"


def _listed(jobs: Sequence[str], joint: str) -> str:
    return joint.join(jobs) if len(jobs) <= 2 else f"{jobs[0]} and {len(jobs) - 1} more"


def _is_chain(item: Awaited, before: Collection[str]) -> bool:
    """Whether it names several links before this one, and nobody else, as the links of a chain do."""
    is_end = item.kind == "afterany" and item.state == _UNMET and len(item.jobs) > 1
    return is_end and not item.either and set(item.jobs) <= set(before)
