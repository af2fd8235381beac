"""Pod facts: what differs from pod to pod of one workload (semantics W1, T6)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from policyd.index.world import World
from policyd.model.names import CORE, ObjectKey
from policyd.resources.base import Resource
from policyd.resources.cluster import Node
from policyd.resources.workload import Pod
from policyd_api.v1 import stream_pb2 as wire


def facts_of(world: World, pod: Resource[object]) -> bytes:
    """Return the canonical bytes of one pod's PodFacts. `pod` is of kind Pod."""
    spec = pod.spec
    if not isinstance(spec, Pod):
        raise TypeError(f"{pod.key.text} is no Pod")
    facts = wire.PodFacts(
        uid=pod.meta.uid or "",
        name=pod.meta.name,
        addresses=addresses_of(pod),
        probe_addresses=normal_addresses(_probe_addresses(world, spec)),
    )
    return facts.SerializeToString(deterministic=True)


def addresses_of(pod: Resource[object]) -> list[str]:
    """Return the addresses of one pod in normal form; none for what is no Pod."""
    return normal_addresses(pod.spec.status.addresses) if isinstance(pod.spec, Pod) else []


def _probe_addresses(world: World, pod: Pod) -> Iterable[str]:
    """Where the kubelet is: the node's addresses, and the first of each of its pod networks."""
    yield pod.status.host_ip
    found = world.objects.get(ObjectKey(CORE, "Node", "", pod.spec.node_name))
    if isinstance(found, Resource) and isinstance(found.spec, Node):
        yield from found.spec.ips
        for cidr in found.spec.pod_cidrs:
            yield _first_address(cidr)


def _first_address(cidr: str) -> str:
    """Return the first address that a host can have, a bridge's; "" where the text is no network."""
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return ""
    return str(network[0] if network.num_addresses == 1 else network[1])


def normal_addresses(written: Iterable[str]) -> list[str]:
    """Return each address once, in normal form, sorted by bytes; what is no address is left out."""
    return sorted({text for text in map(normal_address, written) if text})


@lru_cache(maxsize=65_536)
def normal_address(written: str) -> str:
    """Return an address in normal form (IPv4-mapped as IPv4); "" for what is none."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
