"""Pods and what owns them: only what policy reads, as msgspec structs, because there are many of them.

Unknown fields are skipped without being read; what we read has the API's types or the object is unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from policyd.model.names import PROXY_CONTAINER

PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _Part(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A part of an object that only its author changes."""


class HTTPHeader(_Part, frozen=True):
    """A header that a probe sends."""

    name: str
    value: str = ""


class HTTPGet(_Part, frozen=True):
    """An HTTP probe; `port` is a number or a container port's name."""

    port: PortNumber | str
    path: str = "/"
    scheme: str = "HTTP"
    host: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocket(_Part, frozen=True):
    """A TCP probe."""

    port: PortNumber | str
    host: str = ""


class GRPCCheck(_Part, frozen=True):
    """A gRPC health probe."""

    port: PortNumber
    service: str | None = None


class Probe(_Part, frozen=True):
    """A probe; with none of the three it runs a command and concerns no port."""

    http_get: HTTPGet | None = None
    tcp_socket: TCPSocket | None = None
    grpc: GRPCCheck | None = None


class ContainerPort(_Part, frozen=True):
    """A declared port. `host_port` is only told of."""

    container_port: PortNumber
    name: str = ""
    protocol: str = "TCP"
    host_port: int | None = None


class FieldRef(_Part, frozen=True):
    """A field of the pod, in the downward API."""

    field_path: str


class EnvSource(_Part, frozen=True):
    """Where a variable's value comes from; other sources than the downward API aren't read."""

    field_ref: FieldRef | None = None


class EnvVar(_Part, frozen=True):
    """An environment variable."""

    name: str
    value: str | None = None
    value_from: EnvSource | None = None


class Container(_Part, frozen=True):
    """A container or init container."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str | None = None
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: str | None = None

    @property
    def named_probes(self) -> tuple[tuple[str, Probe], ...]:
        """The probes that are declared, each with its field's name."""
        declared = (
            ("livenessProbe", self.liveness_probe),
            ("readinessProbe", self.readiness_probe),
            ("startupProbe", self.startup_probe),
        )
        return tuple((name, probe) for name, probe in declared if probe is not None)


class PodSpec(_Part, frozen=True):
    """What a pod is made of."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    service_account: str = ""
    restart_policy: str = "Always"
    host_network: bool = False
    node_name: str = ""

    @property
    def account(self) -> str:
        """The service account; the API server fills in `default`."""
        return self.service_account_name or self.service_account or "default"

    @property
    def all_containers(self) -> tuple[Container, ...]:
        return self.init_containers + self.containers


class TemplateMeta(_Part, frozen=True):
    """`metadata` of a pod template."""

    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None


class PodTemplate(_Part, frozen=True):
    """What pods are made from."""

    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec = PodSpec()


class OwnerReference(_Part, frozen=True):
    """Who owns an object."""

    kind: str
    name: str
    api_version: str = ""
    uid: str = ""
    controller: bool = False


class PodIP(_Part, frozen=True):
    """An address of a pod."""

    ip: str = ""


class PodStatus(_Part, frozen=True):
    """What a pod has become."""

    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    host_ip: str = msgspec.field(default="", name="hostIP")
    phase: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses, each once, the main one first."""
        all_of_them = (self.pod_ip, *(address.ip for address in self.pod_ips))
        return tuple(dict.fromkeys(address for address in all_of_them if address))


class Pod(_Part, frozen=True):
    """A pod: `spec` of a Resource of kind Pod holds all of this."""

    owners: tuple[OwnerReference, ...] = ()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def is_meshed(self) -> bool:
        """Whether the pod has a proxy of ours."""
        return any(container.name == PROXY_CONTAINER for container in self.spec.all_containers)


class Replicas(_Part, frozen=True):
    """How many pods an owner keeps; None where it does not say."""

    replicas: int | None = None


OwnerKind = Literal["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"]


class PodOwner(_Part, frozen=True):
    """A Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob: `spec` of a Resource of such a kind.

    `replicas` is None for kinds that have no such number.
    """

    kind: OwnerKind
    owners: tuple[OwnerReference, ...] = ()
    template: PodTemplate = PodTemplate()
    replicas: int | None = None


def controller_of(owners: tuple[OwnerReference, ...]) -> OwnerReference | None:
    """Return the owner that controls the object."""
    return next((owner for owner in owners if owner.controller), None)
