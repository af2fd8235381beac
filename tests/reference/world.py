"""A world: everything that manifests say, by kind, oldest first [W7]."""

from dataclasses import dataclass, field
from typing import Any

from tests.reference.defaults import MeshDefaults, read_defaults
from tests.reference.policies import (
    GATEWAY,
    LINKERD,
    NAMESPACE_NAME,
    OURS,
    Authentications,
    Policy,
    read_identities,
    read_networks,
    read_policy,
    read_rego,
    read_server_authorization,
)
from tests.reference.reading import Labels, Unreadable, instant
from tests.reference.routes import Route, read_route
from tests.reference.servers import Server, read_server
from tests.reference.workloads import SHORT, TEMPLATE_AT, Workload, namespace_of, read_external, read_workload

EXTERNAL = "workload.linkerd.io"
Document = dict[str, Any]
Age = tuple[Any, ...]


def group_of(document: Document) -> str:
    group, slash, _ = str(document.get("apiVersion", "")).partition("/")
    return group if slash else ""


def full_name(document: Document) -> str:
    """`kind.group/namespace/name`, as decisions name objects."""
    kind, name = document["kind"].lower(), document["metadata"]["name"]
    return f"{kind}.{group_of(document)}/{namespace_of(document)}/{name}"


def age_of(document: Document) -> Age:
    """Objects without a time come after all that have one; ties by namespace/name, then kind and group."""
    metadata = document["metadata"]
    try:
        time = (0, instant(metadata.get("creationTimestamp")))
    except Unreadable:
        time = (1, 0)
    return (*time, namespace_of(document), metadata["name"], full_name(document))


@dataclass
class World:
    defaults: MeshDefaults
    namespaces: dict[str, Labels] = field(default_factory=dict)
    annotations: dict[str, dict[str, str]] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)
    servers: list[Server] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    ports: dict[tuple[str, int], Any] = field(default_factory=dict)

    def workload(self, reference: str) -> Workload:
        """By `kind/namespace/name`, the kind in lower case or short. `KeyError` if it isn't there."""
        kind, namespace, name = reference.split("/")
        return self.workloads[f"{SHORT.get(kind, kind)}/{namespace}/{name}"]


def read_world(documents: list[Document]) -> World:
    """Manifests in any order [W8]."""
    documents = sorted((one for one in documents if one.get("kind")), key=age_of)
    meshwide = [
        one for one in documents if one["kind"] == "MeshDefaults" and one["metadata"]["name"] == "default"
    ]
    world = World(read_defaults(meshwide[0] if meshwide else None))
    for document in documents:
        _read_cluster_object(world, document)
    _settle_external(world)
    known = _authentications(world, documents)
    for document in documents:
        _read_policy_object(world, document, known)
    return world


def _read_cluster_object(world: World, document: Document) -> None:
    kind, group, metadata = document["kind"], group_of(document), document["metadata"]
    if kind == "Namespace" and group == "":
        name = metadata["name"]
        world.namespaces[name] = {**(metadata.get("labels") or {}), NAMESPACE_NAME: name}
        world.annotations[name] = dict(metadata.get("annotations") or {})
    elif kind in TEMPLATE_AT and group in ("", "apps", "batch"):
        workload = read_workload(document)
        world.workloads[workload.key] = workload
    elif kind == "ExternalWorkload" and group == EXTERNAL:
        namespace = namespace_of(document)
        allowed = {one for place, listed in world.defaults.external if place == namespace for one in listed}
        workload = read_external(document, allowed)
        world.workloads[workload.key] = workload


def _settle_external(world: World) -> None:
    """Two ExternalWorkloads that declare one identity are both unreadable [W6]."""
    external = [one for one in world.workloads.values() if one.external]
    for workload in external:
        if [one.identity for one in external].count(workload.identity) > 1:
            workload.readable = False


def _authentications(world: World, documents: list[Document]) -> Authentications:
    known, trusted = Authentications(), world.defaults.trusted_labels
    for document in documents:
        kind, group = document["kind"], group_of(document)
        key = (group, namespace_of(document), document["metadata"]["name"])
        try:
            if kind == "MeshTLSAuthentication" and group in (OURS, LINKERD):
                known.identities[key] = read_identities(document, world.namespaces, trusted)
            if kind == "NetworkAuthentication" and group in (OURS, LINKERD):
                known.networks[key] = read_networks(document)
        except Unreadable:
            continue
    return known


def _read_policy_object(world: World, document: Document, known: Authentications) -> None:
    kind, group = document["kind"], group_of(document)
    name, age = full_name(document), age_of(document)
    if kind == "Server" and group in (OURS, LINKERD):
        world.servers.append(read_server(document, age))
    elif (kind == "HTTPRoute" and group in (LINKERD, GATEWAY)) or (kind == "GRPCRoute" and group == GATEWAY):
        world.routes.append(read_route(document, name, age))
    elif kind == "AuthorizationPolicy" and group in (OURS, LINKERD):
        world.policies.append(read_policy(document, name, age, known))
    elif kind == "ServerAuthorization" and group == LINKERD:
        world.policies.append(read_server_authorization(document, name, age, world.defaults.cluster_networks))
    elif kind == "RegoPolicy" and group == OURS:
        world.policies.append(read_rego(document, name, age))
