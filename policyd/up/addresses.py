"""Addresses in 127.0.0.0/8: one range for each run, in it the node's, and two for each pod."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass

from policyd.errors import SourceError

_FIRST, _LAST = 16, 250
_MOST_PODS = 250 * 200


@dataclass(frozen=True, slots=True)
class PodAddresses:
    """`proxy` is where the pod is called; `application` is what its containers bind, their `status.podIP`."""

    proxy: str
    application: str


class AddressRange:
    """127.N.0.0/16 of this run. Pods' addresses are given out once and never again."""

    def __init__(self, second: int) -> None:
        self._second = second
        self._given = 0

    @property
    def network(self) -> str:
        """The range as a CIDR."""
        return str(ipaddress.ip_network(f"127.{self._second}.0.0/16"))

    @property
    def node(self) -> str:
        """Where the node's probes come from."""
        return f"127.{self._second}.0.1"

    @property
    def control_plane(self) -> str:
        """Where identity and policyd listen."""
        return f"127.{self._second}.0.2"

    def next_pod(self) -> PodAddresses:
        """Give a pod its addresses. Raises SourceError where the range is used up."""
        if self._given >= _MOST_PODS:
            raise SourceError(f"{self.network}: no address left for another pod: start `policyctl up` again")
        host, self._given = self._given, self._given + 1
        third, fourth = divmod(host, 250)
        # Odd and even thirds, so that the two addresses of a pod are neighbours to the eye.
        proxy = f"127.{self._second}.{2 * (third % 120) + 1}.{fourth + 1}"
        return PodAddresses(proxy, f"127.{self._second}.{2 * (third % 120) + 2}.{fourth + 1}")


def free_range() -> AddressRange:
    """Choose a range that no other run listens in. Raises SourceError where 127.0.0.0/8 isn't all there."""
    numbers = list(range(_FIRST, _LAST))
    secrets.SystemRandom().shuffle(numbers)
    for second in numbers[:16]:
        found = AddressRange(second)
        if _is_free(found.control_plane, 9443):
            return found
    raise SourceError(
        "127.0.0.0/8: no address could be bound: `policyctl up` needs Linux and its loopback interface"
    )


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
