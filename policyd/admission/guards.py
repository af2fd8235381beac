"""Pods that can't have a proxy, and pods that could get around theirs (research: security, WH-05)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from policyd.admission.annotations import Problem
from policyd.admission.injection import OWN_PORTS, PROXY, PROXY_UID, VOLUME_PREFIX
from policyd.admission.pod import Container, Spec

UNSAFE_CAPABILITIES: Final = frozenset({"ALL", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF"})
"""Whoever has one of these can change the pod's network rules, or read the proxy's memory."""
OTHER_PROXIES: Final = frozenset({"linkerd-proxy", "istio-proxy"})
"""Containers of other meshes. Webhooks go in the order of their names, so these are there first."""


def impossible(spec: Spec) -> Problem | None:
    """Return why a pod can't have a proxy at all."""
    if spec.host_network:
        return Problem(
            "spec.hostNetwork", "true: the pod has the node's network, and a proxy can't stand in front of it"
        )
    if spec.os.name == "windows":
        return Problem("spec.os.name", "'windows': the proxy is for Linux")
    if spec.node_selector.get("kubernetes.io/os") == "windows":
        return Problem('spec.nodeSelector["kubernetes.io/os"]', "'windows': the proxy is for Linux")
    return None


def other_mesh(spec: Spec) -> Problem | None:
    """Return the proxy of another mesh that a pod has: two would both redirect its traffic to themselves."""
    for path, container in spec.placed:
        if container.name in OTHER_PROXIES:
            return Problem(
                f"{path}.name", f"{container.name!r}: a pod is in one mesh: take it out of that one"
            )
    return None


def forbidden(spec: Spec) -> Iterator[Problem]:
    """Yield what no pod with a proxy may have: the proxy's user, its ports, its volumes."""
    foreign = list(spec.foreign)
    yield from _users(spec, foreign)
    for path, container in foreign:
        yield from _ports(path, container)
        yield from _volumes(path, container)
        if container.target_container_name == PROXY:
            message = f"{PROXY!r}: nothing may be attached to the proxy"
            yield Problem(f"{path}.targetContainerName", message)


def _users(spec: Spec, foreign: Iterable[tuple[str, Container]]) -> Iterator[Problem]:
    message = f"{PROXY_UID}: the proxy's own user, whose traffic isn't redirected: expected another"
    if spec.security_context.run_as_user == PROXY_UID:
        yield Problem("spec.securityContext.runAsUser", message)
    for path, container in foreign:
        if container.security_context.run_as_user == PROXY_UID:
            yield Problem(f"{path}.securityContext.runAsUser", message)


def _ports(path: str, container: Container) -> Iterator[Problem]:
    for index, port in enumerate(container.ports):
        if port.protocol == "TCP" and port.container_port in OWN_PORTS:
            message = f"{port.container_port}: the proxy listens there: expected none of {OWN_PORTS}"
            yield Problem(f"{path}.ports[{index}].containerPort", message)


def _volumes(path: str, container: Container) -> Iterator[Problem]:
    for field, mounts in (
        ("volumeMounts", container.volume_mounts),
        ("volumeDevices", container.volume_devices),
    ):
        for index, mount in enumerate(mounts):
            if mount.name.startswith(VOLUME_PREFIX):
                message = f"{mount.name[:80]!r}: volumes that begin with {VOLUME_PREFIX} are the proxy's"
                yield Problem(f"{path}.{field}[{index}].name", message)


def unsafe(spec: Spec) -> Iterator[Problem]:
    """Yield how a pod could get around its proxy: refused where its namespace insists, else told of."""
    if spec.share_process_namespace:
        yield Problem("spec.shareProcessNamespace", "true: other containers could reach the proxy's process")
    if spec.host_pid:
        yield Problem("spec.hostPID", "true: the pod could reach its proxy's process, and any other")
    for path, container in spec.foreign:
        context = container.security_context
        if context.privileged:
            yield Problem(
                f"{path}.securityContext.privileged", "true: the container could undo the redirection"
            )
        for index, name in enumerate(context.capabilities.add):
            bare = name.upper().removeprefix("CAP_")
            if bare in UNSAFE_CAPABILITIES:
                field = f"{path}.securityContext.capabilities.add[{index}]"
                yield Problem(field, f"{bare}: the container could undo the redirection")
