"""Every pod has two addresses of its own, in the run's range."""

from __future__ import annotations

import ipaddress

from policyd.up.addresses import AddressRange


def test_addresses_are_given_once_and_lie_in_the_range() -> None:
    addresses = AddressRange(77)
    network = ipaddress.ip_network(addresses.network)
    given = [addresses.next_pod() for _ in range(2000)]
    both = [text for pod in given for text in (pod.proxy, pod.application)]
    assert len(set(both)) == 4000
    assert all(ipaddress.ip_address(text) in network for text in both)
    assert addresses.node not in both
    assert addresses.control_plane not in both
