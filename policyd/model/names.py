"""Names of objects and of workloads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from policyd.errors import ResourceError

POLICYD = "policyd.dev"
LINKERD_POLICY = "policy.linkerd.io"
LINKERD_WORKLOAD = "workload.linkerd.io"
GATEWAY = "gateway.networking.k8s.io"
CORE = ""

PROXY_CONTAINER = "policyd-proxy"
"""A pod with a container of this name has a proxy: whoever calls it expects its identity."""
TRUST_BUNDLE = "policyd-trust-bundle"
"""The ConfigMap of every namespace that holds the roots; identity writes it."""
AUDIENCE = "policyd-identity"
"""Of the tokens that identity takes."""

OUR_GROUPS = frozenset({POLICYD, LINKERD_POLICY, LINKERD_WORKLOAD})
"""Groups in which an unknown kind, version or field is an error and not somebody else's business."""

_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_WORKLOAD_KINDS = {
    "pod": ("po", "pods"),
    "deployment": ("deploy", "deployments"),
    "statefulset": ("sts", "statefulsets"),
    "daemonset": ("ds", "daemonsets"),
    "replicaset": ("rs", "replicasets"),
    "job": ("jobs",),
    "cronjob": ("cj", "cronjobs"),
    "externalworkload": ("exw", "externalworkloads"),
}
_KIND_BY_SPELLING = {
    spelling: kind for kind, others in _WORKLOAD_KINDS.items() for spelling in (kind, *others)
}


def is_object_name(text: str) -> bool:
    """Whether text can be an object's name (RFC 1123 subdomain, at most 253 bytes)."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_namespace_name(text: str) -> bool:
    """Whether text can be a namespace's name (RFC 1123 label, at most 63 bytes)."""
    return _LABEL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """What an object is called.

    `group` is "" for the core group, `namespace` is "" for cluster-scoped kinds.
    """

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def text(self) -> str:
        """`authorizationpolicy.policyd.dev/ns/name`; without group or namespace these parts are left out."""
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return "/".join(part for part in (kind.lower(), self.namespace, self.name) if part)

    def at(self, field: str) -> str:
        """Return the origin a table carries: `group/kind/namespace/name:field.path`."""
        parts = (self.group or "core", self.kind, self.namespace, self.name)
        place = "/".join(part for part in parts if part)
        return f"{place}:{field}" if field else place


@dataclass(frozen=True, slots=True, order=True)
class WorkloadName:
    """`kind/namespace/name`, kind in lower case (semantics W1)."""

    kind: str
    namespace: str
    name: str

    @property
    def text(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def parse_workload(text: str, namespace: str = "default") -> WorkloadName:
    """Read a workload as written on a command line.

    `deployment/emojivoto/voting`, `deploy/voting` in `namespace`, or a pod's name. Raises ResourceError.
    """
    parts = text.split("/")
    if len(parts) == 1:
        parts = ["pod", namespace, text]
    elif len(parts) == 2:
        parts = [parts[0], namespace, parts[1]]
    kind = _KIND_BY_SPELLING.get(parts[0].lower()) if len(parts) == 3 else None
    if kind is None:
        kinds = ", ".join(_WORKLOAD_KINDS)
        raise ResourceError(
            f"{text!r} names no workload: expected kind/namespace/name, kind/name or a pod's name; "
            f"kinds: {kinds}"
        )
    if not is_namespace_name(parts[1]) or not is_object_name(parts[2]):
        raise ResourceError(f"{text!r} names no workload: namespace and name are lower-case DNS names")
    return WorkloadName(kind, parts[1], parts[2])
