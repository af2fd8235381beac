"""What is read of a cluster beside its workloads: Namespace, ServiceAccount, Service, EndpointSlice, Node.

As in `workload`, only what is read; the attribute `spec` of a Resource of such a kind holds one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class _Part(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A part of an object that only its author changes."""


class Namespace(_Part, frozen=True):
    """A namespace; its labels and annotations are in its Meta."""


class ServiceAccount(_Part, frozen=True):
    """A service account; its name is all that counts."""


class ServicePort(_Part, frozen=True):
    """A port of a Service; `target_port` None means the same number."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None
    app_protocol: str | None = None


class Service(_Part, frozen=True):
    """A Service; without a selector its EndpointSlices, which somebody writes, say where it leads."""

    selector: Mapping[str, str] | None = None
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    type: str = "ClusterIP"


class TargetRef(_Part, frozen=True):
    """The pod or ExternalWorkload behind an endpoint."""

    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class EndpointConditions(_Part, frozen=True):
    """Whether an endpoint takes traffic; None counts as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(_Part, frozen=True):
    """Addresses of one pod."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetRef | None = None
    node_name: str | None = None


class EndpointPort(_Part, frozen=True):
    """A port of all endpoints of a slice."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(_Part, frozen=True):
    """Endpoints of a Service, named by the label `kubernetes.io/service-name`."""

    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = ()
    ports: tuple[EndpointPort, ...] | None = ()


class NodeAddress(_Part, frozen=True):
    """An address of a node."""

    type: str
    address: str


class Node(_Part, frozen=True):
    """A node: where its kubelet's probes come from (semantics T6)."""

    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")
    addresses: tuple[NodeAddress, ...] = ()

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses that are IP addresses."""
        return tuple(each.address for each in self.addresses if each.type in {"InternalIP", "ExternalIP"})
