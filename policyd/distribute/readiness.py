"""Which endpoints are ready, where a cluster's EndpointSlices say so."""

from __future__ import annotations

from collections import defaultdict

from policyd.distribute.facts import normal_address
from policyd.index.world import World
from policyd.resources.base import Resource
from policyd.resources.cluster import EndpointSlice

ENDPOINT_SLICE = ("discovery.k8s.io", "EndpointSlice")
_SERVICE_NAME = "kubernetes.io/service-name"


class Readiness:
    """Built anew for each state of the world. It takes endpoints away and never adds one.

    A slice is written by whoever may; who is behind a Service, and with which identity, its pods say.
    """

    def __init__(self, world: World) -> None:
        self._ready: dict[tuple[str, str], set[str]] = defaultdict(set)
        for found in world.of_kind(*ENDPOINT_SLICE):
            service = found.meta.labels.get(_SERVICE_NAME)
            if isinstance(found, Resource) and isinstance(found.spec, EndpointSlice) and service:
                self._ready[found.meta.namespace, service].update(_ready(found.spec))

    def admits(self, namespace: str, service: str, address: str) -> bool:
        """Whether a pod's address may be called; without slices of the Service, any that runs."""
        known = self._ready.get((namespace, service))
        return known is None or address in known


def _ready(found: EndpointSlice) -> set[str]:
    """Return the addresses of endpoints that are ready, or of which nobody says that they aren't."""
    return {
        normal_address(address)
        for endpoint in found.endpoints or ()
        if endpoint.conditions.ready is not False
        for address in endpoint.addresses
    }
