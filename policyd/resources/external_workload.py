"""ExternalWorkload: a workload outside of Kubernetes (Linkerd's kind)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from policyd.resources.identities import SpiffeId
from policyd.resources.networks import normal_address
from policyd.resources.spec import Items, Spec


def _address(value: object) -> object:
    return str(normal_address(value)) if isinstance(value, str) else value


class MeshTLS(Spec):
    """Who the workload is."""

    identity: SpiffeId
    """The SPIFFE ID that it proves to be."""
    server_name: Annotated[str, Field(min_length=1, max_length=253)]
    """The name that clients ask for in TLS."""


class ExternalPort(Spec):
    """A port of the workload."""

    name: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Its name, which a Server may use."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Its number."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    """Its transport; only TCP is meshed."""


class WorkloadAddress(Spec):
    """An address of the workload."""

    ip: Annotated[str, BeforeValidator(_address), Field(max_length=64)]
    """IPv4 or IPv6."""


class ExternalWorkloadSpec(Spec):
    """A workload outside of Kubernetes, with an identity that it declares."""

    mesh_tls: Annotated[MeshTLS, Field(alias="meshTLS")]
    """Who the workload is."""
    ports: Annotated[Items[ExternalPort], Field(max_length=256)] = ()
    """Its ports."""
    workload_ips: Annotated[Items[WorkloadAddress], Field(alias="workloadIPs", max_length=2)] = ()
    """Its addresses."""
