"""TCP ports of the rendezvous: a free one, a named one that must be free, and another machine's."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

from qad_core.errors import OutsideError, RunError


class PortTakenError(RunError):
    """Another process listens on the port."""


def choose_port(wanted: int, *, spare: int = 0) -> int:
    """The port that machine 0 listens on: `wanted` or the first free one of the `spare` after it; any when it is 0.

    Raises PortTakenError when they are taken, and RunError when the port is not allowed.
    """
    for port in range(wanted, wanted + spare):
        try:
            return _try_port(port)
        except PortTakenError:
            continue
    return _try_port(wanted + spare)


def wait_for_port(address: str, port: int, *, seconds: float, give_up: Callable[[], bool] = lambda: False) -> None:
    """Wait until machine 0 listens: then the run folder is written and the tokens are there.

    Returns at once when `give_up` says so. Raises OutsideError when nothing listens within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if give_up():
            return
        try:
            socket.create_connection((address, port), timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise OutsideError(
        f"Nothing listens at {address}:{port} after {seconds:.0f} s.",
        "Start the same command with NODE_RANK=0 on that machine, and see that no firewall is between.",
    )


def _try_port(wanted: int) -> int:
    with socket.socket() as listener:
        # As the rendezvous itself does: a port that a run has just left is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", wanted))
        except (OSError, OverflowError) as error:
            hint = "Set cluster.master_port (or MASTER_PORT) to a free port, or to 0 to have one chosen."
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise PortTakenError(f"The port {wanted} is taken by another process.", hint) from error
            raise RunError(f"The port {wanted} cannot be used: {error}.", hint) from error
        return int(listener.getsockname()[1])
