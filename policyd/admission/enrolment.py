"""Whether a pod is to be injected: what its namespace's labels and annotations say, and its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from policyd.admission.annotations import (
    INJECT,
    LINKERD_INJECT,
    MIRROR,
    OPT_OUT,
    Problem,
    annotation_field,
)
from policyd.resources.spec import shown

SYSTEM_NAMESPACES: Final = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Never injected: a cluster must come up without us."""

_ON = frozenset({"enabled", "ingress"})
"""`ingress` is Linkerd's; here it means `enabled`."""


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """What of a pod's namespace decides about injection."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def enrolled(self) -> bool:
        """Whether every pod must have a proxy, and is refused where it can't."""
        return self.labels.get(INJECT) == "enabled"

    @property
    def opt_out(self) -> bool:
        """Whether a pod of an enrolled namespace may go without."""
        return self.labels.get(OPT_OUT) == "allowed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What was found. `must`: whoever asks insists, so that an obstacle is a refusal."""

    answer: Literal["inject", "leave", "refuse"]
    reason: str = ""
    must: bool = False
    problem: Problem | None = None


def wish(annotations: Mapping[str, str], namespace: NamespaceFacts, control_plane: str) -> Wish:
    """Say whether a pod with these annotations is to be injected."""
    if namespace.name in SYSTEM_NAMESPACES or namespace.name == control_plane:
        return Wish("leave", f"pods of namespace {namespace.name} are never injected")
    if MIRROR in annotations:
        return Wish("leave", "a mirror of a static pod, which can't be changed")
    broken = _broken(annotations, namespace)
    if broken is not None:
        return Wish("refuse", problem=broken)
    asked = _asked(annotations)
    return _enrolled(annotations, asked, namespace) if namespace.enrolled else _offered(asked, namespace)


def _offered(pod: str, namespace: NamespaceFacts) -> Wish:
    if pod == "on":
        return Wish("inject", must=True)
    if namespace.labels.get(INJECT) == "disabled":
        return Wish("leave", f"namespace {namespace.name} has the label {INJECT}=disabled")
    if pod == "off":
        return Wish("leave", "the pod's annotation says disabled")
    if _asked(namespace.annotations) == "on":
        return Wish("inject")
    return Wish("leave", f"neither namespace {namespace.name} nor the pod asks for it")


def _enrolled(annotations: Mapping[str, str], pod: str, namespace: NamespaceFacts) -> Wish:
    if pod != "off":
        return Wish("inject", must=not namespace.opt_out or pod == "on")
    if namespace.opt_out:
        return Wish("leave", f"the pod's annotation says disabled, and {OPT_OUT}=allowed lets it")
    name = INJECT if INJECT in annotations else LINKERD_INJECT
    message = (
        f"'disabled': every pod of namespace {namespace.name} has a proxy; "
        f"only its label {OPT_OUT}=allowed lets a pod do without"
    )
    return Wish("refuse", problem=Problem(annotation_field(name), message))


def _asked(annotations: Mapping[str, str]) -> Literal["on", "off", ""]:
    """Return what the annotations ask for; ours counts before Linkerd's."""
    value = annotations.get(INJECT, annotations.get(LINKERD_INJECT, ""))
    return "on" if value in _ON else "off" if value == "disabled" else ""


def _broken(annotations: Mapping[str, str], namespace: NamespaceFacts) -> Problem | None:
    """Return what can't be read of who asks: a guess would leave a pod without its proxy."""
    values = "expected enabled or disabled"
    label = namespace.labels.get(INJECT)
    if label not in {None, "enabled", "disabled"}:
        return Problem(f'label "{INJECT}" of namespace {namespace.name}', f"{shown(label)}: {values}")
    for place, where in (("", annotations), (f" of namespace {namespace.name}", namespace.annotations)):
        for name in (INJECT, LINKERD_INJECT):
            value = where.get(name)
            if value is not None and value not in _ON | {"disabled"}:
                return Problem(f"{annotation_field(name)}{place}", f"{shown(value)}: {values}")
    return None
