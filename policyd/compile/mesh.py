"""What MeshDefaults fixes for every workload's own part (semantics W6)."""

from __future__ import annotations

from dataclasses import dataclass

from policyd.compile.access import meet, parse_access
from policyd.compile.rows import Access
from policyd.model.names import POLICYD, ObjectKey
from policyd.resources.base import Resource, Unreadable
from policyd.resources.mesh_defaults import DEFAULT_NAME, MeshDefaults, UnreadableItem

MESH_DEFAULTS = ObjectKey(POLICYD, "MeshDefaults", "", DEFAULT_NAME)
MOST_CONDITIONAL = 256
"""How many enforced policies with a `when` one port can have (semantics V8)."""
WARN_CONDITIONAL = 32
"""From how many on `check` warns (semantics V8)."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """The part of MeshDefaults that workloads' parts are made from."""

    trust_domain: str
    default_access: Access = Access.DENY
    max_default: Access = Access.ALL_UNAUTHENTICATED
    cluster_networks: tuple[str, ...] = ()
    trusted_labels: frozenset[str] = frozenset()
    opaque_ports: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ClusterRules:
    """What workloads must know of the cluster's rules: how many have a `when`, whether one reads paths."""

    conditional: int = 0
    reads_path: bool = False


def defaults_of(found: Resource[object] | Unreadable | None) -> MeshDefaults:
    """Return what MeshDefaults says; where nothing can be read, one unreadable `deny` (semantics U4)."""
    if found is None:
        return MeshDefaults()
    if isinstance(found, Resource) and isinstance(found.spec, MeshDefaults):
        return found.spec
    return MeshDefaults(deny=(UnreadableItem(None),))


def mesh_of(defaults: MeshDefaults, trust_domain: str) -> Mesh:
    fields = defaults.fields
    return Mesh(
        trust_domain,
        parse_access(fields.default_access) or Access.DENY,
        parse_access(fields.max_default) or Access.DENY,
        tuple(sorted(set(fields.cluster_networks))),
        frozenset(fields.trusted_namespace_labels),
        frozenset(fields.opaque_ports),
    )


def cluster_rules_of(defaults: MeshDefaults) -> ClusterRules:
    items = [item for item in (*defaults.deny, *defaults.require) if not isinstance(item, UnreadableItem)]
    return ClusterRules(
        sum(1 for item in items if item.when and item.mode == "Enforce"),
        any(condition.subject == "path" for item in items for condition in item.when),
    )


def default_access(mesh: Mesh, annotations: list[str]) -> Access:
    """Return the effective default of a port without a Server (semantics W4).

    `annotations` are the values found on the pod and its namespace in either spelling; an unknown one is
    `deny`.
    """
    given = [parse_access(value) or Access.DENY for value in annotations]
    return meet([*(given or [mesh.default_access]), mesh.max_default])
