"""The interface over which ranks meet is the one that the kernel would take."""

from __future__ import annotations

import psutil

from qad_core.launch.network import interface_towards
from qad_core.launch.plan import Rendezvous, network_settings


def test_this_machine_is_reached_over_its_loopback() -> None:
    assert interface_towards("127.0.0.1") == interface_towards("localhost") == "lo"


def test_a_name_that_nobody_knows_has_no_interface() -> None:
    assert interface_towards("no-such-host.invalid") is None


def test_an_own_address_is_on_the_interface_that_has_it() -> None:
    addresses = {
        item.address: name
        for name, items in psutil.net_if_addrs().items()
        for item in items
        if item.family.name == "AF_INET" and not item.address.startswith("127.")
    }
    assert all(interface_towards(address) in (name, "lo") for address, name in addresses.items())


def test_gloo_and_nccl_are_told_the_interface_unless_somebody_chose_one() -> None:
    meeting = Rendezvous(2, 0, "127.0.0.1", 29500)
    assert network_settings(meeting, {}) == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    assert network_settings(meeting, {"NCCL_SOCKET_IFNAME": "ib0"}) == {"GLOO_SOCKET_IFNAME": "lo"}
    assert network_settings(Rendezvous(), {}) == {}
