"""What the asker of an explanation may see: objects of the denial's namespace, and others that he may read.

An explanation is made in a world that holds nothing else, so that it can't print what isn't there. What a
rule table holds of objects that aren't seen, whom they name above all, is left out of its sentences.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from policyd.compile.compiler import Compiler
from policyd.compile.table import CompiledTable
from policyd.explain.manifests import Manifests
from policyd.index.digests import digest, hash_text
from policyd.index.world import Object, World
from policyd.model.names import CORE, ObjectKey
from policyd.resources.base import Resource, Unreadable
from policyd.resources.kinds import key_of
from policyd.resources.mesh_tls_authentication import MeshTLSAuthenticationSpec

NAMESPACES = ObjectKey(CORE, "Namespace", "", "")
"""Stands for the names and labels of all namespaces, which a selector of namespaces tells of."""


@dataclass(frozen=True, slots=True)
class Enforced:
    """How a workload stands now. `objects`: those of its namespace, and all that its table is made of."""

    trust_domain: str
    table: CompiledTable | None
    objects: Mapping[ObjectKey, Object] = field(default_factory=dict)
    sources: frozenset[ObjectKey] = frozenset()


class Standing(Protocol):
    """Who knows how workloads stand now; asked on the event loop."""

    def enforced(self, workload: str, namespace: str, pod: str) -> Enforced:
        """Return how a workload stands, as a pod of it has it where that is still there."""


def former_sources(content: bytes | None) -> Mapping[ObjectKey, str] | None:
    """Read what a former table was made of: digests by object. None where that isn't known."""
    if content is None:
        return None
    try:
        listed = json.loads(content)
        found = {key_of(name): str(value) for name, value in listed.items()}
    except (ValueError, AttributeError):
        return None
    return {key: value for key, value in found.items() if key is not None} if None not in found else None


def elsewhere(
    namespace: str, enforced: Enforced, former: Mapping[ObjectKey, str] | None
) -> frozenset[ObjectKey] | None:
    """Return the objects outside of a namespace that its tables, then and now, tell of; None: not known."""
    if former is None:
        return None
    keys = {*enforced.sources, *former}
    found = {key for key in keys if not _is_within(key, namespace)}
    if any(_may_select(key, former.get(key), enforced.objects.get(key)) for key in keys):
        found.add(NAMESPACES)
    return frozenset(found)


def _is_within(key: ObjectKey, namespace: str) -> bool:
    own = (key.group, key.kind, key.name) == (CORE, "Namespace", namespace)
    return own or key.namespace == namespace


def _may_select(key: ObjectKey, then: str | None, found: Object | None) -> bool:
    """Whether an authentication selects namespaces by their labels, or did so when it was another."""
    if key.kind != "MeshTLSAuthentication":
        return False
    if not isinstance(found, Resource) or not isinstance(found.spec, MeshTLSAuthenticationSpec):
        return True
    changed = then is not None and hash_text(digest(found)) != then
    return changed or found.spec.namespace_selector is not None


def seen(namespace: str, enforced: Enforced, readable: frozenset[ObjectKey]) -> Manifests:
    """Return a world of what is seen. It has no workloads, and so no tables: these are given."""
    world = World()
    world.objects.update(
        {
            key: found
            for key, found in enforced.objects.items()
            if _is_within(key, namespace) or key in readable
        }
    )
    made = Compiler(World(), enforced.trust_domain)
    made.world = world
    return Manifests(made)


def is_policy(found: Resource[object] | Unreadable) -> bool:
    """Whether an explanation may want to show an object for what it says."""
    return bool(found.key.group) and found.key.group not in {"apps", "batch", "discovery.k8s.io"}
