"""What an address that a pod dials stands for: the Service whose it is, in normal form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from policyd.distribute.facts import normal_address
from policyd.distribute.slices import Slices
from policyd.index.world import World
from policyd.model.names import CORE, ObjectKey
from policyd.resources.base import Resource
from policyd.resources.cluster import Service

_WRITTEN = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]{2,45})\]|(?P<v4>[0-9.]{7,15})):(?P<port>[1-9][0-9]{0,4})")
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """An address in normal form, and a port."""

    ip: str
    port: int


def parse_address(written: str) -> Address | None:
    """Read `10.96.0.1:80` or `[fd00::1]:80`; None for anything else."""
    found = _WRITTEN.fullmatch(written)
    if found is None:
        return None
    ip, port = normal_address(found["v6"] or found["v4"]), int(found["port"])
    return Address(ip, port) if ip and port <= _LAST_PORT else None


class ServiceAddresses:
    """The Services that lead somewhere we know, by their cluster addresses, in one state of the world.

    One with neither a selector nor slices isn't among them: where its traffic goes is the node's business.
    """

    def __init__(self, world: World, slices: Slices) -> None:
        self._by_address: dict[str, ObjectKey] = {}
        for found in sorted(world.of_kind(CORE, "Service"), key=lambda each: each.key):
            if not isinstance(found, Resource) or not isinstance(found.spec, Service):
                continue
            if found.spec.selector or slices.speak_of(found.meta.namespace, found.meta.name):
                for written in (found.spec.cluster_ip, *found.spec.cluster_ips):
                    address = normal_address(written)
                    if address:
                        self._by_address.setdefault(address, found.key)

    def service(self, address: str) -> ObjectKey | None:
        """Return whose cluster address that is, which must be in normal form."""
        return self._by_address.get(address)
