"""Waiting where a server asks for it: which answers are worth another try, and how long until then.

Owns the waits and says each one. A server that names its wait (`Retry-After`) is obeyed; another gets
twice the time before each try. The libraries below try a few times themselves before we hear of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from qad_core.errors import OutsideError

BUSY_STATUS = 429
WORTH_A_WAIT = frozenset({BUSY_STATUS, 500, 502, 503, 504})
MAX_TRIES = 10
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0
Result = TypeVar("Result")


def with_waits(what: str, action: Callable[[], Result], tell: Callable[[str], None]) -> Result:
    """Call `action` until the server behind it is not busy; raises OutsideError after `MAX_TRIES`, else its error."""
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return action()
        except Exception as error:
            wait_or_raise(what, error, attempt, tell)
    raise AssertionError("the last try raises")


def read_with_waits(
    what: str, open_from: Callable[[int], Iterator[Result]], tell: Callable[[str], None]
) -> Iterator[Result]:
    """The items of a stream that is opened again, past those it has given, where the server was busy.

    `open_from(n)` opens it without its first n items. Raises as `with_waits`; an item sets the tries back.
    """
    given = attempt = 0
    while True:
        try:
            for item in open_from(given):
                yield item
                given += 1
                attempt = 0
            return
        except Exception as error:
            attempt += 1
            wait_or_raise(what, error, attempt, tell)


def wait_or_raise(what: str, error: Exception, attempt: int, tell: Callable[[str], None]) -> None:
    """Sleep before try number `attempt + 1`; raise the error where no wait will help."""
    answer = find_answer(error)
    if answer is None:
        raise error
    status, retry_after = answer
    if attempt >= MAX_TRIES:
        raise OutsideError(
            f"{what}: the server answered {status} to {attempt} tries", "Try again later: what is there is kept."
        ) from error
    seconds = choose_wait(attempt, retry_after)
    reason = "asks to wait" if status == BUSY_STATUS else "is not up to it"
    tell(f"{what}: the server {reason} ({status}); waiting {seconds:.0f} s, then try {attempt + 1} of {MAX_TRIES}")
    time.sleep(seconds)


def choose_wait(attempt: int, retry_after: float | None) -> float:
    """Seconds after the `attempt`-th answer: what the server says, else doubled each time with some chance in it."""
    if retry_after is not None:
        return min(retry_after, LONGEST_WAIT_SECONDS)
    # By chance, so that the processes of one preparation do not all come back at once.
    return min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS) * random.uniform(1.0, 1.25)


def find_answer(error: BaseException | None) -> tuple[int, float | None] | None:
    """(status, Retry-After in seconds) of the busy server behind an error; None for an error of another kind."""
    while error is not None:
        response: Any = getattr(error, "response", None)
        status = getattr(response, "status_code", getattr(error, "status", None))
        if status in WORTH_A_WAIT:
            headers: Any = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
            return int(status), _seconds(headers.get("Retry-After"))
        error = error.__cause__ or error.__context__
    return None


def _seconds(text: str | None) -> float | None:
    # It may be a date too, which is not worth reading here.
    return float(text) if text is not None and text.strip().isdigit() else None
