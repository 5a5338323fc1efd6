"""Waiting where a server asks for it or its stream breaks off: what is worth another try, and how long until then.

Owns the waits and says each one. A server that names its wait (`Retry-After`) is obeyed, however long it
is; another gets twice the time before each try. The libraries below try a few times themselves before
we hear of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from qad_core.errors import OutsideError, QadError

BUSY_STATUS = 429
WORTH_A_WAIT = frozenset({BUSY_STATUS, 500, 502, 503, 504})
MAX_TRIES = 10
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0
_BROKEN_OFF = frozenset(
    {("httpx", "TransportError"), ("httpx2", "TransportError"), ("aiohttp", "ClientError"), ("pyarrow", "ArrowInvalid")}
)
"""Package and class of errors of a connection that failed or a body that was cut, named so as not to load them."""
Result = TypeVar("Result")


class Setback(NamedTuple):
    """Why another try may succeed."""

    reason: str
    """In words."""
    retry_after: float | None = None
    """Seconds that the server asked for."""


def with_waits(
    what: str,
    action: Callable[[], Result],
    tell: Callable[[str], None],
    find_setback: Callable[[BaseException], Setback | None] | None = None,
) -> Result:
    """Call `action` until the server behind it is not busy; raises OutsideError after `MAX_TRIES`, else its error.

    `find_setback` may find more that is worth a wait in an error than a busy server.
    """
    find_setback = find_setback or find_busy
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return action()
        except Exception as error:
            wait_or_raise(what, error, find_setback(error), attempt, tell)
    raise AssertionError("the last try raises")


def read_with_waits(
    what: str, open_from: Callable[[int], Iterator[Result]], tell: Callable[[str], None]
) -> Iterator[Result]:
    """The items of a stream that is opened again, past those it has given, where the server was busy or it broke off.

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
        except QadError:
            raise
        except Exception as error:
            attempt += 1
            wait_or_raise(what, error, find_busy(error) or find_break(error), attempt, tell)


def wait_or_raise(
    what: str, error: Exception, setback: Setback | None, attempt: int, tell: Callable[[str], None]
) -> None:
    """Sleep before try number `attempt + 1`; raise the error where no wait will help (`setback` is None)."""
    if setback is None:
        raise error
    if attempt >= MAX_TRIES:
        raise OutsideError(
            f"{what}: {setback.reason} at each of {attempt} tries", "Try again later: what is there is kept."
        ) from error
    seconds = choose_wait(attempt, setback.retry_after)
    tell(f"{what}: {setback.reason}; waiting {seconds:.0f} s, then try {attempt + 1} of {MAX_TRIES}")
    time.sleep(seconds)


def choose_wait(attempt: int, retry_after: float | None) -> float:
    """Seconds after the `attempt`-th answer: what the server says, else doubled each time with some chance in it."""
    if retry_after is not None:
        return retry_after
    # By chance, so that the processes of one preparation do not all come back at once.
    return min(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), LONGEST_WAIT_SECONDS) * random.uniform(1.0, 1.25)


def find_busy(error: BaseException) -> Setback | None:
    """The busy server behind an error; None for an error of another kind."""
    for cause in _causes(error):
        status = _status(cause)
        if status in WORTH_A_WAIT:
            headers: Any = getattr(getattr(cause, "response", None), "headers", None) or getattr(cause, "headers", None)
            reason = "asks to wait" if status == BUSY_STATUS else "is not up to it"
            return Setback(f"the server {reason} ({status})", _seconds((headers or {}).get("Retry-After")))
    return None


def find_break(error: BaseException) -> Setback | None:
    """The connection behind an error that failed or gave less than the whole; None where the server answered."""
    if find_status(error) is not None:
        return None
    broken = next((cause for cause in _causes(error) if _is_break(cause)), None)
    return broken and Setback(f"the connection broke off ({type(broken).__name__}: {broken})")


def find_status(error: BaseException) -> int | None:
    """HTTP status of the answer behind an error; None where there was none."""
    return next((status for status in map(_status, _causes(error)) if status is not None), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", getattr(error, "status", None))
    return status if isinstance(status, int) else None


def _is_break(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | EOFError):
        return True
    # pyarrow has no better word than OSError, without a number, for a file that ends too early.
    if type(error) is OSError and error.errno is None:
        return True
    return any((kind.__module__.partition(".")[0], kind.__name__) in _BROKEN_OFF for kind in type(error).__mro__)


def _seconds(text: str | None) -> float | None:
    # It may be a date too, which is not worth reading here.
    return float(text) if text is not None and text.strip().isdigit() else None
