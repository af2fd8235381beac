"""Pods by address and by what a Service selects: the index that discovery asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policyd.distribute.facts import normal_address
from policyd.index.workloads import EXTERNAL, POD
from policyd.index.world import World
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource, Unreadable
from policyd.resources.external_workload import ExternalWorkloadSpec
from policyd.resources.workload import Pod

BACKEND_KINDS = frozenset({POD, EXTERNAL})
"""(group, kind) of what has addresses of its own."""
_ENDED = frozenset({"Succeeded", "Failed"})
"""Phases of pods whose addresses are somebody else's by now."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Something with addresses: a pod that hasn't ended, or an ExternalWorkload.

    `identity` is what it must prove, "" where it has no proxy; `ports` are its declared ports by name;
    `takes` says whether it is behind Services: a pod that runs, and isn't being deleted; `on_node` that the
    addresses are its node's, and so nobody's own.
    """

    resource: Resource[object]
    addresses: tuple[str, ...]
    identity: str
    ports: Mapping[str, int]
    takes: bool = True
    on_node: bool = False

    @property
    def is_external(self) -> bool:
        """Whether somebody wrote down these addresses, instead of having been given them."""
        return self.resource.key.kind != "Pod"

    def port(self, target: int | str) -> int | None:
        """Return the number of a Service's target port; None where the name isn't declared."""
        return target if isinstance(target, int) else self.ports.get(target)


_Made = dict[ObjectKey, Backend | None]


class Backends:
    """What runs now, by namespace, in one state of the world."""

    def __init__(self, world: World, trust_domain: str, before: Backends | None = None) -> None:
        """`before` are those of an earlier state: what didn't change since isn't made again."""
        self._by_namespace: dict[str, list[Backend]] = defaultdict(list)
        self._by_address: dict[str, list[Backend]] | None = None
        self._made: _Made = _backends_of(world, trust_domain, {} if before is None else before._made)
        found = [backend for backend in self._made.values() if backend is not None and backend.addresses]
        # A pod's address beats an ExternalWorkload's (design §7).
        taken = {
            address
            for backend in found
            if not backend.is_external and not backend.on_node
            for address in backend.addresses
        }
        for backend in found:
            if not backend.is_external or not taken & set(backend.addresses):
                self._by_namespace[backend.resource.key.namespace].append(backend)

    def selected(self, namespace: str, selector: Mapping[str, str]) -> Iterable[Backend]:
        """Return what a Service of the namespace selects."""
        for backend in self._by_namespace.get(namespace, ()):
            labels = backend.resource.meta.labels
            if backend.takes and all(labels.get(key) == value for key, value in selector.items()):
                yield backend

    def at(self, address: str, namespace: str) -> Sequence[Backend]:
        """Return what has an address, which must be in normal form, as a pod of the namespace sees it.

        Several where pods share their node's. What takes traffic beats what begins or ends: addresses are
        given out again. An ExternalWorkload counts in its own namespace only, since its author may claim any
        address (promise P-8); from others it is called through a Service.
        """
        if self._by_address is None:
            self._by_address = defaultdict(list)
            for backends in self._by_namespace.values():
                for backend in backends:
                    for each in backend.addresses:
                        self._by_address[each].append(backend)
        known = self._by_address.get(address, ())
        found = [each for each in known if not each.is_external or each.resource.key.namespace == namespace]
        found = [each for each in found if not each.on_node] or found
        found = [each for each in found if each.takes] or found
        return sorted(found, key=lambda each: each.resource.key)


def _backends_of(world: World, trust_domain: str, before: _Made) -> _Made:
    """Return the backend of every object that can be one, None where it isn't."""
    made: _Made = {}
    for kind in BACKEND_KINDS:
        for found in world.each_of_kind(*kind):
            known = before.get(found.key)
            if known is not None and known.resource is found:
                made[found.key] = known
            else:
                made[found.key] = _backend(found, trust_domain)
    return made


def _backend(found: Resource[object] | Unreadable, trust_domain: str) -> Backend | None:
    if not isinstance(found, Resource):
        return None
    if isinstance(found.spec, Pod) and found.spec.status.phase not in _ENDED:
        return _pod(found, found.spec, trust_domain)
    if isinstance(found.spec, ExternalWorkloadSpec) and found.meta.deletion is None:
        return _external(found, found.spec)
    return None


def _pod(found: Resource[object], pod: Pod, trust_domain: str) -> Backend:
    account = f"spiffe://{trust_domain}/ns/{found.meta.namespace}/sa/{pod.spec.account}"
    ports = {
        port.name: port.container_port
        for container in pod.spec.all_containers
        for port in container.ports
        if port.name and port.protocol == "TCP"
    }
    addresses = tuple(text for text in map(normal_address, pod.status.addresses) if text)
    takes = pod.status.phase == "Running" and found.meta.deletion is None
    # No proxy can stand in front of a node's addresses, whatever a container of the pod is called.
    on_node = pod.spec.host_network
    identity = account if pod.is_meshed and not on_node else ""
    return Backend(found, addresses, identity, ports, takes, on_node)


def _external(found: Resource[object], spec: ExternalWorkloadSpec) -> Backend:
    ports = {port.name: port.port for port in spec.ports if port.name and port.protocol == "TCP"}
    addresses = tuple(text for text in (normal_address(each.ip) for each in spec.workload_ips) if text)
    return Backend(found, addresses, str(spec.mesh_tls.identity), ports)
