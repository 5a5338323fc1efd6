"""A failure seen over its chain: how many starts in a row failed of the same kind, and why the chain was stopped.

What each start failed of is found by `failure.py`; it is handed in, newest first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from qad_core.run.failure import Failure
from qad_core.run.folder import RunFolder
from qad_core.run.redact import fit_to_show

MOST_STARTS = 20
"""Starts that are looked back at: each may have megabytes of logs."""
REASON_CHARACTERS = 300
_AS_IT_SHOULD = ("the run is done", "stopped at ")
"""How the reasons begin that are no failure (`launch/chain.py`)."""


def with_chain(failure: Failure | None, earlier: Iterable[Failure | None], stopped: str) -> Failure | None:
    """The failure of the newest start with those before it and the reason that stopped its chain.

    Where no cause is found, the reason alone makes a card, unless the chain was stopped as it should be.
    """
    if failure is None:
        return _stopped_chain(stopped) if stopped and not stopped.startswith(_AS_IT_SHOULD) else None
    times = 1
    for before in earlier:
        if before is None or before.kind != failure.kind:
            break
        times += 1
    return dataclasses.replace(failure, times=times, chain_stopped=stopped)


def read_chain_stop(folder: RunFolder, chain: str) -> str:
    """Why a chain was stopped; empty where it was not."""
    path = folder.chain_stop(chain)
    if not chain or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return fit_to_show(file.read(8 * REASON_CHARACTERS).strip(), REASON_CHARACTERS)


def _stopped_chain(reason: str) -> Failure:
    return Failure(
        kind="chain_stopped",
        title="The chain was stopped",
        message=reason,
        rank=None,
        where="",
        log=None,
        line=None,
        time=None,
        advice=("Look at the logs of its links, mend the cause, and submit again.",),
        changes=(),
        excerpt=(),
        others=0,
        chain_stopped=reason,
    )
