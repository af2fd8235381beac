"""Networks of the cluster beside those of MeshDefaults (semantics W5): `policyctl up` has its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from policyd.index.world import Change
from policyd.model.names import POLICYD, ObjectKey
from policyd.resources.base import Document, Meta, Resource
from policyd.resources.mesh_defaults import DEFAULT_NAME, MeshDefaults
from policyd.sources.events import AnyObject

MESH_DEFAULTS = ObjectKey(POLICYD, "MeshDefaults", "", DEFAULT_NAME)


def with_networks(changes: Iterable[Change], networks: tuple[str, ...]) -> list[Change]:
    """Return the changes with the networks added to those of a MeshDefaults among them."""
    return [
        (key, _widened(found, networks)) if key == MESH_DEFAULTS and networks else (key, found)
        for key, found in changes
    ]


def absent(networks: tuple[str, ...]) -> list[Change]:
    """Return the change that stands for a MeshDefaults nobody wrote; none where there is nothing to add."""
    return [(MESH_DEFAULTS, _widened(None, networks))] if networks else []


def _widened(found: AnyObject | None, networks: tuple[str, ...]) -> AnyObject:
    if found is None:
        meta = Meta(DEFAULT_NAME)
        found = Resource(MESH_DEFAULTS, "v1alpha1", meta, Document({}), MeshDefaults())
    if not isinstance(found, Resource) or not isinstance(found.spec, MeshDefaults):
        return found  # what can't be read says nothing of networks either
    fields = found.spec.fields
    wider = fields.model_copy(update={"cluster_networks": (*fields.cluster_networks, *networks)})
    return replace(found, spec=replace(found.spec, fields=wider))
