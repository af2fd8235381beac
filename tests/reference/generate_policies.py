"""Authentications, authorizations and MeshDefaults of generated worlds."""

import random
from typing import Any

from tests.reference.generate_values import (
    ACCESSES,
    IDENTITIES,
    condition,
    document,
    network,
    networks,
    often,
    pick,
)

Document = dict[str, Any]
Random = random.Random
Targets = tuple[list[Document], list[Document], list[Document]]

OURS, LINKERD_AUTH = "policyd.dev/v1alpha1", "policy.linkerd.io/v1alpha1"


def parent(server: Document) -> Document:
    group = server["apiVersion"].split("/")[0]
    return {"group": group, "kind": "Server", "name": server["metadata"]["name"]}


def authentications(rng: Random) -> list[Document]:
    """Up to three, of fixed names, so that references to a missing one happen too."""
    found = [_mesh_tls(rng, name) for name in ("callers", "team") if often(rng, 0.96)]
    if often(rng, 0.96):
        group = OURS if often(rng, 0.7) else LINKERD_AUTH
        found.append(document(rng, group, "NetworkAuthentication", "lan", {"networks": networks(rng)}))
    return found


def _mesh_tls(rng: Random, name: str) -> Document:
    if often(rng, 0.25):
        spec: Document = {
            "identities": rng.sample((*IDENTITIES, "c.n.serviceaccount.identity.linkerd.cluster.local"), 2)
        }
        return document(rng, LINKERD_AUTH, "MeshTLSAuthentication", name, spec)
    spec = {}
    if often(rng, 0.7):
        spec["identities"] = rng.sample(IDENTITIES, rng.choice((1, 2)))
    if often(rng, 0.3) or not spec:
        spec["identityRefs"] = [
            rng.choice(({"kind": "ServiceAccount", "name": "c"}, {"kind": "Namespace", "name": "m"}))
        ]
    if often(rng, 0.2):
        key = rng.choice(("kubernetes.io/metadata.name", "team", "team"))
        spec["namespaceSelector"] = rng.choice(({"matchLabels": {key: rng.choice(("m", "red"))}}, {}))
    if often(rng, 0.25):
        spec["except"] = {"identities": [rng.choice(IDENTITIES)]}
    return document(rng, OURS, "MeshTLSAuthentication", name, spec)


def _references(rng: Random, known: list[Document]) -> list[Document]:
    """Mostly to objects that are there, in either group [I5]."""
    groups = {one["metadata"]["name"]: one["apiVersion"].split("/")[0] for one in known}
    found: list[Document] = []
    who = pick(rng, ((None, 4), ("callers", 3), ("team", 2), ("c", 2), ("missing", 0.15)))
    if who == "c":
        found.append({"kind": "ServiceAccount", "name": "c", "namespace": rng.choice(("n", "m"))})
    elif who:
        found.append({"group": groups.get(who, "policyd.dev"), "kind": "MeshTLSAuthentication", "name": who})
    if often(rng, 0.2):
        found.append(
            {"group": groups.get("lan", "policyd.dev"), "kind": "NetworkAuthentication", "name": "lan"}
        )
    return found


def target(rng: Random, servers: list[Document], routes: list[Document]) -> Document:
    kind = pick(rng, (("server", 5), ("route", 4), ("namespace", 3), ("missing", 0.3)))
    if kind == "server" and servers:
        return parent(rng.choice(servers[:1] * 2 + servers))
    if kind == "route" and routes:
        route = rng.choice(routes)
        return {
            "group": route["apiVersion"].split("/")[0],
            "kind": route["kind"],
            "name": route["metadata"]["name"],
        }
    if kind == "missing":
        return {"group": "policyd.dev", "kind": "Server", "name": "missing"}
    return {"kind": "Namespace", "name": "n"}


def policy(rng: Random, name: str, targets: Targets) -> Document:
    servers, routes, known = targets
    linkerd = often(rng, 0.2)
    spec: Document = {
        "targetRef": target(rng, servers, routes),
        "requiredAuthenticationRefs": _references(rng, known),
    }
    if linkerd:
        return document(rng, LINKERD_AUTH, "AuthorizationPolicy", name, spec)
    action = pick(rng, (("Allow", 5), ("Deny", 2), ("Require", 1.7), (None, 3)))
    if action:
        spec["action"] = action
    if often(rng, 0.25):
        spec["mode"] = rng.choice(("Audit", "Audit", "Enforce"))
    if often(rng, 0.7 if action in ("Deny", "Require") else 0.3):
        spec["when"] = [condition(rng) for _ in range(rng.choice((1, 1, 1, 2)))]
    if action in ("Allow", None) and often(rng, 0.15):
        spec["validUntil"] = rng.choice(
            ("2026-11-21T11:59:59Z", "2026-11-21T12:00:00Z", "2027-01-01T00:00:00+01:00")
        )
    return document(rng, OURS, "AuthorizationPolicy", name, spec)


def server_authorization(rng: Random) -> Document:
    client = pick(
        rng,
        (
            ({"unauthenticated": True}, 2),
            ({"meshTLS": {"unauthenticatedTLS": True}}, 2),
            ({"meshTLS": {"identities": ["*.n.serviceaccount.identity.linkerd.cluster.local"]}}, 2),
            ({"meshTLS": {"serviceAccounts": [{"name": "c"}]}}, 2),
        ),
    )
    if often(rng, 0.3):
        client = {**client, "networks": networks(rng)}
    server = {"name": "s"} if often(rng, 0.4) else {"selector": {"matchLabels": {"app": "w"}}}
    group = "policy.linkerd.io/v1beta1"
    return document(rng, group, "ServerAuthorization", "z", {"server": server, "client": client})


def mesh_defaults(rng: Random) -> Document:
    spec: Document = {"maxTableAge": "12h"}
    if often(rng, 0.7):
        spec["defaultAccess"] = rng.choice((*ACCESSES, "all-unauthenticated", "all-unauthenticated", "audit"))
    if often(rng, 0.2):
        spec["maxDefault"] = rng.choice((*ACCESSES, "all-unauthenticated"))
    if often(rng, 0.15):
        spec["clusterNetworks"] = ["10.0.0.0/16"]
    if often(rng, 0.3):
        spec["trustedNamespaceLabels"] = ["team"]
    if often(rng, 0.3):
        spec["probeNetworks"] = ["10.9.0.0/24"]
    if often(rng, 0.2):
        spec["opaquePorts"] = [7000]
    if often(rng, 0.4):
        spec["deny"] = [_item(rng, f"d{place}", "deny") for place in range(rng.choice((1, 1, 2)))]
    if often(rng, 0.3):
        spec["require"] = [_item(rng, "f", "require")]
    if often(rng, 0.4):
        spec["revoked"] = [_revoked(rng)]
    if often(rng, 0.3):
        spec["externalIdentities"] = [{"namespace": "n", "identities": ["spiffe://cluster.local/job/x"]}]
    return {"apiVersion": OURS, "kind": "MeshDefaults", "metadata": {"name": "default"}, "spec": spec}


def _item(rng: Random, name: str, kind: str) -> Document:
    item: Document = {"name": name}
    if often(rng, 0.75):
        item["identities"] = (
            rng.sample(IDENTITIES, 1) if kind == "deny" else ["*", *rng.sample(IDENTITIES, 1)]
        )
        if often(rng, 0.3):
            item["except"] = [rng.choice(IDENTITIES)]
        if kind == "deny" and often(rng, 0.95):
            item["withoutIdentity"] = rng.choice(("Refuse", "Ignore", "Ignore"))
    if often(rng, 0.3) or "identities" not in item:
        item["networks"] = [network(rng)]
    if often(rng, 0.6):
        item["when"] = [condition(rng)]
    if often(rng, 0.2):
        item["mode"] = "Audit"
    if often(rng, 0.03):
        item["unknown"] = 1
    return item


def _revoked(rng: Random) -> Document:
    item = rng.choice(
        (
            {"identity": "spiffe://cluster.local/ns/n/sa/d"},
            {"podUID": "u-1"},
            {"certificateSHA256": "ab" * 32},
        )
    )
    return {**item, "issuedBefore": "2026-11-21T11:00:00Z"} if often(rng, 0.4) else dict(item)
