"""Authentications and authorizations, read from manifests [I4-I7, A1-A8, U1, U2]."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.reference.conditions import Condition, conditions
from tests.reference.identity import Identities, form, of_account, of_namespace, references
from tests.reference.reading import (
    Block,
    Labels,
    Selector,
    Unreadable,
    blocks,
    choice,
    fields,
    flag,
    instant,
    items,
    selector,
    selector_keys,
    text,
)

OURS, LINKERD, GATEWAY = "policyd.dev", "policy.linkerd.io", "gateway.networking.k8s.io"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
TARGETS = {
    "Server": (OURS, LINKERD),
    "HTTPRoute": (LINKERD, GATEWAY),
    "GRPCRoute": (GATEWAY,),
    "Namespace": ("", "core"),
}


@dataclass
class Authentications:
    """What can be referred to: by (kind, group, namespace, name). Unreadable ones aren't in it."""

    identities: dict[tuple[str, str, str], Identities] = field(default_factory=dict)
    networks: dict[tuple[str, str, str], list[Block]] = field(default_factory=dict)


@dataclass
class Policy:
    """One authorization before it is put on ports. `target` is (group, kind, name)."""

    name: str
    age: tuple[Any, ...]
    namespace: str
    effect: str = "Allow"
    audit: bool = False
    target: tuple[str, str, str] | None = None
    servers: Selector | None = None
    readable: bool = True
    identities: Identities | None = None
    blocks: list[Block] | None = None
    when: list[Condition] = field(default_factory=list)
    valid_until: int | None = None


def read_identities(
    document: dict[str, Any], namespaces: dict[str, Labels], trusted: list[str]
) -> Identities:
    """A MeshTLSAuthentication [I4]. `Unreadable` where it can't be read."""
    ours = document["apiVersion"].startswith(OURS)
    known = ("identities", "identityRefs", *(("namespaceSelector", "except") if ours else ()))
    spec = fields(document.get("spec"), *known)
    home = document["metadata"].get("namespace", "default")
    parts = [part for part in known[:3] if part in spec]
    if not parts or (not ours and len(parts) > 1):
        raise Unreadable("MeshTLSAuthentication names nobody, or in two ways")
    found = Identities(_listed(spec, home))
    if "namespaceSelector" in spec:
        wanted = selector(spec["namespaceSelector"])
        if selector_keys(spec["namespaceSelector"]) - {NAMESPACE_NAME, *trusted}:
            raise Unreadable("namespaceSelector uses a label that isn't trusted")
        found.any_of += [of_namespace(name) for name, labels in namespaces.items() if wanted(labels)]
    if "except" in spec:
        found.without = _listed(fields(spec["except"], "identities", "identityRefs"), home, least=0)
    return found


def _listed(entry: dict[str, Any], home: str, least: int = 1) -> list[str]:
    listed = [form(item) for item in items(entry["identities"], least)] if "identities" in entry else []
    refs = entry.get("identityRefs")
    if refs is None or (refs == [] and least == 0):
        return listed
    return listed + references(refs, home)


def read_networks(document: dict[str, Any]) -> list[Block]:
    return blocks(fields(document.get("spec"), "networks").get("networks"))


def _attempt(policy: Policy, read: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return read()
    except Unreadable:
        policy.readable = False
        return otherwise


def _target(value: Any, namespace: str) -> tuple[str, str, str]:
    entry = fields(value, "group", "kind", "name")
    kind, name = choice(entry.get("kind"), *TARGETS), text(entry.get("name"))
    group = choice(entry.get("group", ""), *TARGETS[kind])
    if kind == "Namespace" and name != namespace:
        raise Unreadable("targetRef: another namespace")
    return (group, kind, name)


def read_policy(document: dict[str, Any], name: str, age: tuple[Any, ...], known: Authentications) -> Policy:
    """An AuthorizationPolicy of either group; what can't be read is salvaged as U2 says."""
    ours = document["apiVersion"].startswith(OURS)
    namespace = document["metadata"].get("namespace", "default")
    policy = Policy(name, age, namespace)
    spec = document.get("spec")
    if not isinstance(spec, dict):
        policy.readable, policy.effect = False, "Deny" if ours else "Allow"
        return policy
    spec = {key: value for key, value in spec.items() if value is not None}
    allowed = {"targetRef", "requiredAuthenticationRefs"}
    allowed |= {"action", "mode", "when", "validUntil"} if ours else set()
    policy.readable = set(spec) <= allowed
    if ours:
        action, mode = spec.get("action", "Allow"), spec.get("mode", "Enforce")
        policy.effect = _attempt(policy, lambda: choice(action, "Allow", "Deny", "Require"), "Deny")
        policy.audit = _attempt(policy, lambda: choice(mode, "Enforce", "Audit"), "Enforce") == "Audit"
        policy.when = _attempt(policy, lambda: conditions(spec.get("when", [])), [])
        if "validUntil" in spec:
            policy.valid_until = _attempt(policy, lambda: instant(spec["validUntil"]), None)
            policy.readable = policy.readable and policy.effect == "Allow"
    policy.target = _attempt(policy, lambda: _target(spec.get("targetRef"), namespace), None)
    _attempt(policy, lambda: _authenticate(policy, spec, known), None)
    return policy


def _authenticate(policy: Policy, spec: dict[str, Any], known: Authentications) -> None:
    """At most one of MeshTLSAuthentication or ServiceAccount, at most one NetworkAuthentication [I6]."""
    refs = items(spec.get("requiredAuthenticationRefs"), least=0)
    entries = [fields(ref, "group", "kind", "name", "namespace") for ref in refs]
    kinds = [entry.get("kind") for entry in entries]
    if len([kind for kind in kinds if kind != "NetworkAuthentication"]) > 1 or len(kinds) > 2:
        raise Unreadable("more than one of a kind of authentication")
    if kinds.count("NetworkAuthentication") > 1:
        raise Unreadable("more than one NetworkAuthentication")
    for entry in entries:
        _one_reference(policy, entry, known)


def _one_reference(policy: Policy, entry: dict[str, Any], known: Authentications) -> None:
    """One that is missing matches nobody in an Allow, and makes a Deny or Require unreadable [I7]."""
    kind, name, group = entry.get("kind"), text(entry.get("name")), entry.get("group", "")
    namespace = text(entry.get("namespace", policy.namespace))
    if kind == "ServiceAccount" and group in ("", "core"):
        policy.identities = Identities([of_account(namespace, name)])
        return
    if group not in (OURS, LINKERD) or kind not in ("MeshTLSAuthentication", "NetworkAuthentication"):
        raise Unreadable(f"authentication {group}/{kind}")
    key = (group, namespace, name)
    if kind == "MeshTLSAuthentication":
        policy.identities = known.identities.get(key, Identities([]))
    else:
        policy.blocks = known.networks.get(key, [])
    there = key in (known.identities if kind == "MeshTLSAuthentication" else known.networks)
    if not there and policy.effect != "Allow":
        raise Unreadable(f"{kind} {name} is missing")


def read_server_authorization(
    document: dict[str, Any], name: str, age: tuple[Any, ...], cluster_networks: list[Block]
) -> Policy:
    """An Allow on Servers of Linkerd's group, named or selected; without networks, the cluster's [A8]."""
    policy = Policy(name, age, document["metadata"].get("namespace", "default"), blocks=cluster_networks)
    _attempt(policy, lambda: _server_authorization(policy, document.get("spec")), None)
    return policy


def _server_authorization(policy: Policy, value: Any) -> None:
    spec = fields(value, "server", "client")
    server = fields(spec.get("server"), "name", "selector")
    client = fields(spec.get("client"), "networks", "unauthenticated", "meshTLS")
    if len(server) != 1:
        raise Unreadable("server: exactly one of name and selector")
    if "name" in server:
        policy.target = (LINKERD, "Server", text(server["name"]))
    else:
        policy.servers = selector(server["selector"])
    if "networks" in client:
        policy.blocks = blocks(client["networks"])
    anyone, mesh = flag(client.get("unauthenticated", False)), client.get("meshTLS")
    if anyone == (mesh is not None):
        raise Unreadable("client: exactly one of unauthenticated and meshTLS")
    if mesh is not None:
        policy.identities = _mesh_client(mesh, policy.namespace)


def _mesh_client(value: Any, namespace: str) -> Identities:
    mesh = fields(value, "unauthenticatedTLS", "identities", "serviceAccounts")
    listed = [form(item) for item in items(mesh["identities"])] if "identities" in mesh else []
    for item in items(mesh["serviceAccounts"]) if "serviceAccounts" in mesh else []:
        entry = fields(item, "name", "namespace")
        listed.append(of_account(text(entry.get("namespace", namespace)), text(entry.get("name"))))
    if flag(mesh.get("unauthenticatedTLS", False)) == bool(listed):
        raise Unreadable("meshTLS: exactly one of unauthenticatedTLS and a list")
    return Identities(listed or ["*"])


def read_rego(document: dict[str, Any], name: str, age: tuple[Any, ...]) -> Policy:
    """Until Rego is built, an unreadable Deny [U1]."""
    policy = Policy(name, age, document["metadata"].get("namespace", "default"), "Deny", readable=False)
    spec = document.get("spec") or {}
    policy.audit = spec.get("mode") == "Audit"
    policy.target = _attempt(policy, lambda: _target(spec.get("targetRef"), policy.namespace), None)
    return policy
