"""Where the services that a pod calls are, and who must answer there (design §7).

A proxy with explicit listeners asks by name, `namespace/name:port`; one to which everything is redirected
asks by the address that was dialled, `10.96.0.1:80` or `[fd00::1]:80` (decision record 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from itertools import islice
from typing import NamedTuple

from policyd.compile.mesh import defaults_of
from policyd.distribute.addresses import Address, ServiceAddresses, parse_address
from policyd.distribute.pods import BACKEND_KINDS, Backend, Backends
from policyd.distribute.slices import ENDPOINT_SLICE, Slices
from policyd.index.world import World
from policyd.model.names import CORE, POLICYD, ObjectKey
from policyd.resources.base import Resource
from policyd.resources.cluster import Service, ServicePort
from policyd.resources.mesh_defaults import DEFAULT_NAME, MeshDefaults
from policyd_api.v1 import stream_pb2 as wire

MOST_SERVICES = 1024
MOST_ENDPOINTS = 1024

_MESH_DEFAULTS = ObjectKey(POLICYD, "MeshDefaults", "", DEFAULT_NAME)

ProtocolOf = Callable[[ObjectKey, int], str]
"""What the Server of a member's port says it speaks: `unknown`, `HTTP/1`, …"""


Row = tuple[str, int, str, str]
"""An endpoint: address, port, identity, protocol."""


class Who(NamedTuple):
    """Who must answer at an address; `owners` are the namespaces of those that have it for their own."""

    identity: str
    protocol: str
    owners: frozenset[str]


class Discovery:
    """Answers for one state of the world; each service is looked up once, however many pods call it."""

    def __init__(self, world: World, trust_domain: str, protocol_of: ProtocolOf) -> None:
        self._world = world
        self._trust_domain = trust_domain
        self._protocol_of = protocol_of
        self._backends: Backends | None = None
        self._former: Backends | None = None
        self._slices: Slices | None = None
        self._addresses: ServiceAddresses | None = None
        self.changed(frozenset())

    def changed(self, kinds: Set[tuple[str, str]]) -> None:
        """Objects of these kinds, by (group, kind), are others now: answer for the world as it is now.

        Who is where is looked up again only where that can have changed: an edit of a policy costs the same
        however many pods there are (promise P-8).
        """
        self._known: dict[str, wire.ServicePort] = {}
        self._seen_from: dict[tuple[str, str], wire.ServicePort] = {}
        self._plaintext = _outbound_plaintext(self._world)
        self._opaque = frozenset(defaults_of(self._world.objects.get(_MESH_DEFAULTS)).fields.opaque_ports)
        if kinds & BACKEND_KINDS and self._backends is not None:
            self._former, self._backends = self._backends, None
        if ENDPOINT_SLICE in kinds:
            self._slices = None
        if kinds & {(CORE, "Service"), ENDPOINT_SLICE}:
            self._addresses = None

    def _pods(self) -> Backends:
        if self._backends is None:
            self._backends = Backends(self._world, self._trust_domain, self._former)
            self._former = None
        return self._backends

    def _listing(self) -> Slices:
        if self._slices is None:
            self._slices = Slices(self._world)
        return self._slices

    def of(self, asked: Iterable[str], namespace: str, own: Iterable[str] = ()) -> bytes:
        """Return the canonical bytes of what a proxy that asks for these services and addresses is told.

        `namespace` is that of its pod, `own` are the pod's addresses, in normal form: it isn't redirected to
        itself.
        """
        here = frozenset(own)
        rows = [self._row(each, namespace, here) for each in sorted(set(asked))[:MOST_SERVICES]]
        message = wire.Discovery(services=rows, outbound_plaintext=self._plaintext)
        return message.SerializeToString(deterministic=True)

    def _row(self, asked: str, namespace: str, own: frozenset[str]) -> wire.ServicePort:
        if "/" in asked:
            return self._service(asked)
        key = (namespace, asked)
        if key not in self._seen_from:
            place = parse_address(asked)
            # FAIL-CLOSED: what can't be read is nobody's address.
            row = wire.ServicePort() if place is None else self._at(place, namespace)
            row.service = asked
            self._seen_from[key] = row
        return _with_own(self._seen_from[key], own)

    def _at(self, place: Address, namespace: str) -> wire.ServicePort:
        """Who is at an address: a Service's endpoints, a pod, or whoever it is, out of our sight."""
        if self._addresses is None:
            self._addresses = ServiceAddresses(self._world, self._listing())
        service = self._addresses.service(place.ip)
        if service is not None:
            name = f"{service.namespace}/{service.name}:{place.port}"
            return wire.ServicePort(endpoints=self._service(name).endpoints, name=name)
        who = self._who(place, namespace)
        if who is None:
            return wire.ServicePort()  # FAIL-CLOSED: nobody can be both
        endpoint = wire.Endpoint(
            address=place.ip, port=place.port, identity=who.identity, protocol=who.protocol
        )
        return wire.ServicePort(endpoints=[endpoint])

    def _service(self, service: str) -> wire.ServicePort:
        if service not in self._known:
            self._known[service] = wire.ServicePort(service=service, endpoints=self._endpoints(service))
        return self._known[service]

    def _endpoints(self, service: str) -> list[wire.Endpoint]:
        """None where there is no such Service or port: the proxy then has nobody to call."""
        namespace, _, rest = service.partition("/")
        name, _, port = rest.rpartition(":")
        found = self._world.objects.get(ObjectKey(CORE, "Service", namespace, name))
        if not isinstance(found, Resource) or not isinstance(found.spec, Service):
            return []
        ports = (each for each in found.spec.ports if str(each.port) == port and each.protocol == "TCP")
        behind = self._selected if found.spec.selector else self._listed
        endpoints = {row for each in islice(ports, 1) for row in behind(found, found.spec, each)}
        return [
            wire.Endpoint(address=address, port=number, identity=identity, protocol=protocol)
            for address, number, identity, protocol in sorted(endpoints)[:MOST_ENDPOINTS]
        ]

    def _selected(self, found: Resource[object], spec: Service, port: ServicePort) -> Iterable[Row]:
        target = port.target_port if port.target_port is not None else port.port
        namespace, name = found.meta.namespace, found.meta.name
        for backend in self._pods().selected(namespace, spec.selector or {}):
            for row in self._of_backend(backend, target):
                if backend.is_external or self._listing().admit(namespace, name, row[0]):
                    yield row

    def _listed(self, found: Resource[object], _spec: Service, port: ServicePort) -> Iterable[Row]:
        """Who is at the addresses that slices list, but for pods of other namespaces (design §7)."""
        namespace = found.meta.namespace
        for address, number in self._listing().listed(namespace, found.meta.name, port.name):
            who = self._who(Address(address, number), namespace)
            if who is not None and who.owners <= {namespace}:
                yield address, number, who.identity, who.protocol

    def _who(self, place: Address, namespace: str) -> Who | None:
        """Who must answer at an address, as a namespace sees it; None where that would be two."""
        backends = self._pods().at(place.ip, namespace)
        identities = {backend.identity for backend in backends}
        if len(identities) > 1:
            return None
        identity = next(iter(identities), "")
        protocol = "opaque" if place.port in self._opaque else "unknown"
        if identity:
            protocol = self._protocol_of(backends[0].resource.key, place.port)
        owners = frozenset(each.resource.key.namespace for each in backends if not each.on_node)
        return Who(identity, protocol, owners)

    def _of_backend(self, backend: Backend, target: int | str) -> Iterable[Row]:
        number = backend.port(target)
        if number is None:
            return
        protocol = self._protocol_of(backend.resource.key, number)
        for address in backend.addresses:
            yield address, number, backend.identity, protocol


def _with_own(row: wire.ServicePort, own: frozenset[str]) -> wire.ServicePort:
    """Say of endpoints that they are the asking pod, which has no proxy in front of itself."""
    if not any(endpoint.address in own for endpoint in row.endpoints):
        return row
    told = wire.ServicePort()
    told.CopyFrom(row)
    for endpoint in told.endpoints:
        if endpoint.address in own:
            endpoint.identity, endpoint.own = "", True
    return told


def _outbound_plaintext(world: World) -> str:
    found = world.objects.get(_MESH_DEFAULTS)
    if found is None:
        return "Allow"
    if isinstance(found, Resource) and isinstance(found.spec, MeshDefaults):
        return found.spec.fields.outbound.plaintext
    return "Deny"  # FAIL-CLOSED: an object of which nothing at all could be read
