"""Where the services that a pod calls are, and who must answer there (design §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from policyd.distribute.pods import Backend, Backends
from policyd.distribute.readiness import Readiness
from policyd.index.world import World
from policyd.model.names import CORE, POLICYD, ObjectKey
from policyd.resources.base import Resource
from policyd.resources.cluster import Service
from policyd.resources.mesh_defaults import DEFAULT_NAME, MeshDefaults
from policyd_api.v1 import stream_pb2 as wire

MOST_SERVICES = 1024
MOST_ENDPOINTS = 1024

ProtocolOf = Callable[[ObjectKey, int], str]
"""What the Server of a member's port says it speaks: `unknown`, `HTTP/1`, …"""


class Discovery:
    """Answers for one state of the world; each service is looked up once, however many pods call it."""

    def __init__(self, world: World, trust_domain: str, protocol_of: ProtocolOf) -> None:
        self._world = world
        self._backends = Backends(world, trust_domain)
        self._readiness = Readiness(world)
        self._protocol_of = protocol_of
        self._known: dict[str, wire.ServicePort] = {}
        self._plaintext = _outbound_plaintext(world)

    def of(self, services: Iterable[str]) -> bytes:
        """Return the canonical bytes of what a proxy with these services (`namespace/name:port`) is told."""
        rows = [self._service(service) for service in sorted(set(services))[:MOST_SERVICES]]
        message = wire.Discovery(services=rows, outbound_plaintext=self._plaintext)
        return message.SerializeToString(deterministic=True)

    def _service(self, service: str) -> wire.ServicePort:
        if service not in self._known:
            self._known[service] = wire.ServicePort(service=service, endpoints=self._endpoints(service))
        return self._known[service]

    def _endpoints(self, service: str) -> list[wire.Endpoint]:
        """None where there is no such Service or port: the proxy then has nobody to call."""
        namespace, _, rest = service.partition("/")
        name, _, port = rest.rpartition(":")
        found = self._world.objects.get(ObjectKey(CORE, "Service", namespace, name))
        if not isinstance(found, Resource) or not isinstance(found.spec, Service) or not found.spec.selector:
            return []
        targets = [
            each.target_port if each.target_port is not None else each.port
            for each in found.spec.ports
            if str(each.port) == port and each.protocol == "TCP"
        ]
        endpoints = {
            endpoint
            for target in targets[:1]
            for backend in self._backends.selected(namespace, found.spec.selector)
            for endpoint in self._of_backend(backend, target)
            if backend.resource.key.kind != "Pod" or self._readiness.admits(namespace, name, endpoint[0])
        }
        return [
            wire.Endpoint(address=address, port=number, identity=identity, protocol=protocol)
            for address, number, identity, protocol in sorted(endpoints)[:MOST_ENDPOINTS]
        ]

    def _of_backend(self, backend: Backend, target: int | str) -> Iterable[tuple[str, int, str, str]]:
        number = backend.port(target)
        if number is None:
            return
        protocol = self._protocol_of(backend.resource.key, number)
        for address in backend.addresses:
            yield address, number, backend.identity, protocol


def _outbound_plaintext(world: World) -> str:
    found = world.objects.get(ObjectKey(POLICYD, "MeshDefaults", "", DEFAULT_NAME))
    if found is None:
        return "Allow"
    if isinstance(found, Resource) and isinstance(found.spec, MeshDefaults):
        return found.spec.fields.outbound.plaintext
    return "Deny"  # FAIL-CLOSED: an object of which nothing at all could be read
