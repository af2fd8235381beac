"""From a pod spec, or an ExternalWorkload, to the shape that decides its rule table (semantics W1, T6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policyd.index.shapes import ContainerPort, DeclaredProbe, Shape, relevant, sorted_labels
from policyd.resources.base import Meta
from policyd.resources.external_workload import ExternalWorkloadSpec
from policyd.resources.identities import account_of
from policyd.resources.workload import Container, HTTPGet, PodSpec, Probe, TCPSocket


def shape_of_pod(
    namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str], spec: PodSpec
) -> Shape:
    """Return the shape of a pod, or of the pods that a template makes."""
    return Shape(
        namespace,
        labels=sorted_labels(labels),
        service_account=spec.account,
        ports=_ports(spec.all_containers),
        probes=_probes(spec),
        annotations=relevant(annotations),
    )


def shape_of_external(meta: Meta, spec: ExternalWorkloadSpec) -> Shape:
    """Return the shape of an ExternalWorkload; its service account is that of its identity, or none."""
    account = account_of(spec.mesh_tls.identity)
    ports = {ContainerPort(port.port, port.name or "") for port in spec.ports if port.protocol == "TCP"}
    return Shape(
        meta.namespace,
        external=True,
        labels=sorted_labels(meta.labels),
        service_account="" if account is None else account[2],
        ports=tuple(sorted(ports)),
        annotations=relevant(meta.annotations),
    )


def _ports(containers: Iterable[Container]) -> tuple[ContainerPort, ...]:
    found = {
        ContainerPort(port.container_port, port.name)
        for container in containers
        for port in container.ports
        if port.protocol == "TCP"
    }
    return tuple(sorted(found))


def _probes(spec: PodSpec) -> tuple[DeclaredProbe, ...]:
    sidecars = (container for container in spec.init_containers if container.restart_policy == "Always")
    declared = (
        _declared(probe, container)
        for container in (*spec.containers, *sidecars)
        for _, probe in container.named_probes
    )
    return tuple(sorted({probe for probe in declared if probe is not None}))


def unanswered(probe: Probe, container: Container) -> tuple[str, str] | None:
    """Return the field that keeps a probe from being exempt (semantics T6), and why; None where it is."""
    match probe:
        case Probe(http_get=HTTPGet(port=port, scheme=scheme, host=host)):
            field = "httpGet"
        case Probe(tcp_socket=TCPSocket(port=port, host=host)):
            field, scheme = "tcpSocket", "HTTP"
        case _:
            return None
    if scheme.upper() != "HTTP":
        return (
            f"{field}.scheme",
            f"{scheme}: the kubelet has no identity, and what TLS hides can't be told apart",
        )
    if host:
        return f"{field}.host", f"{host}: a probe of another host doesn't come to this pod"
    if port_number(port, container) is None:
        return f"{field}.port", f"{port!r}: the container declares no port of that name"
    return None


def by_tls(probe: Probe, container: Container) -> bool:
    """Whether a probe of the pod itself is one by HTTPS, which somebody must make for the kubelet."""
    get = probe.http_get
    if get is None or get.scheme.upper() != "HTTPS" or get.host:
        return False
    return port_number(get.port, container) is not None


def _declared(probe: Probe, container: Container) -> DeclaredProbe | None:
    """Return a probe that comes over the network in plaintext to the pod itself; None for any other."""
    if unanswered(probe, container) is not None:
        return None
    if probe.http_get is not None:
        return _http(probe.http_get, container)
    if probe.tcp_socket is not None:
        port = port_number(probe.tcp_socket.port, container)
        return None if port is None else DeclaredProbe(port, "tcp")
    if probe.grpc is not None:
        return DeclaredProbe(probe.grpc.port, "grpc", service=probe.grpc.service or "")
    return None


def _http(probe: HTTPGet, container: Container) -> DeclaredProbe | None:
    port = port_number(probe.port, container)
    if port is None:
        return None
    target = probe.path if probe.path.startswith("/") else f"/{probe.path}"
    names = {header.name.lower() for header in probe.http_headers}
    return DeclaredProbe(port, "http", target, tuple(sorted(names)))


def port_number(port: int | str, container: Container) -> int | None:
    """Return a probe's port; a name is one of its own container's, as the kubelet resolves it."""
    if isinstance(port, int):
        return port
    return next((each.container_port for each in container.ports if each.name == port), None)
