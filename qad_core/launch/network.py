"""The network interface over which the ranks of several machines meet, found rather than configured.

gloo and NCCL guess one by themselves, and guess wrong where a machine has a bridge or an unrouted card first.
"""

from __future__ import annotations

import socket

import psutil

INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_ANY_PORT = 9


def interface_towards(address: str) -> str | None:
    """Name of the interface whose traffic reaches a host, or None when the host is not known by name or route.

    Asks the kernel's routing table by connecting a datagram socket, which sends nothing. On the host itself the
    name may stand for a loopback address (Debian writes 127.0.1.1 into /etc/hosts); other machines cannot reach
    that, so the answer is then the interface of the host's own routed address, where it has one.
    """
    own = _own_address_towards(address)
    if own is None:
        return None
    if own.startswith("127.") and not address.startswith("127.") and not _everyone_is_here(address):
        own = _own_address_towards(_public_name()) or own
    return _interface_of(own)


def _own_address_towards(address: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, _ANY_PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _everyone_is_here(address: str) -> bool:
    """Whether the name stands for plain 127.0.0.1: then all machines of the run are virtual ones of this host."""
    return socket.gethostbyname(address) == "127.0.0.1"


def _public_name() -> str:
    """An address outside (TEST-NET-1, RFC 5737): its route is the default route; nothing is sent there."""
    return "192.0.2.1"


def _interface_of(own: str) -> str | None:
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.family == socket.AF_INET and item.address == own for item in addresses):
            return name
    # The whole of 127.0.0.0/8 is the loopback interface's, whatever address of it is in use.
    return _interface_of("127.0.0.1") if own.startswith("127.") and own != "127.0.0.1" else None
