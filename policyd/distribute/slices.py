"""What EndpointSlices list: of a Service without a selector, nobody else says where it leads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from policyd.distribute.facts import normal_address
from policyd.index.world import World
from policyd.resources.base import Resource
from policyd.resources.cluster import EndpointSlice

ENDPOINT_SLICE = ("discovery.k8s.io", "EndpointSlice")
_SERVICE_NAME = "kubernetes.io/service-name"


class Listed(NamedTuple):
    """An address and a port that a slice lists, in normal form."""

    address: str
    port: int


class Slices:
    """The slices of each Service, in one state of the world.

    A slice is written by whoever may; who is at an address, and with which identity, its pod says.
    """

    def __init__(self, world: World) -> None:
        self._of: dict[tuple[str, str], list[EndpointSlice]] = defaultdict(list)
        for found in world.of_kind(*ENDPOINT_SLICE):
            service = found.meta.labels.get(_SERVICE_NAME)
            if isinstance(found, Resource) and isinstance(found.spec, EndpointSlice) and service:
                self._of[found.meta.namespace, service].append(found.spec)
        self._ready = {service: set(_ready(slices)) for service, slices in self._of.items()}

    def speak_of(self, namespace: str, service: str) -> bool:
        """Whether the Service has slices."""
        return (namespace, service) in self._of

    def admit(self, namespace: str, service: str, address: str) -> bool:
        """Whether a pod's address may be called; without slices of the Service, any that runs."""
        known = self._ready.get((namespace, service))
        return known is None or address in known

    def listed(self, namespace: str, service: str, port: str) -> Iterator[Listed]:
        """Yield what is ready behind a port of the Service, by the port's name."""
        for found in self._of.get((namespace, service), ()):
            numbers = {
                each.port
                for each in found.ports or ()
                if (each.name or "") == port and (each.protocol or "TCP") == "TCP"
            }
            for address in _ready([found]):
                yield from (Listed(address, number) for number in numbers if number is not None)


def _ready(slices: list[EndpointSlice]) -> Iterator[str]:
    """Yield the addresses of endpoints that are ready, or of which nobody says that they aren't."""
    for found in slices:
        for endpoint in found.endpoints or ():
            if endpoint.conditions.ready is not False:
                yield from filter(None, map(normal_address, endpoint.addresses))
