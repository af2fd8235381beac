"""Random worlds for the differential test: small, from few names, so that policies collide.

`world(random.Random(seed))` gives manifests; the same seed gives the same world for ever.
"""

import random
from typing import Any

from tests.reference.generate_policies import (
    authentications,
    mesh_defaults,
    parent,
    policy,
    server_authorization,
    target,
)
from tests.reference.generate_values import ACCESSES, HOSTS, PATHS, document, often, pick

Document = dict[str, Any]
Random = random.Random

OURS, LINKERD = "policyd.dev/v1alpha1", "policy.linkerd.io/v1beta3"
GATEWAY = "gateway.networking.k8s.io/v1"
PROTOCOLS = (
    ("unknown", 13), ("HTTP/1", 4), ("HTTP/2", 2), ("gRPC", 2), ("opaque", 1), ("TLS", 1), (None, 3),
)  # fmt: skip
WORLD = "deployment/n/w"


def world(rng: Random) -> list[Document]:
    """The manifests of one world, shuffled: their order must not matter [W8]."""
    found = [_deployment(rng), _namespace(rng, "n"), _namespace(rng, "m")]
    if often(rng, 0.55):
        found.append(mesh_defaults(rng))
    if often(rng, 0.09):
        found += _external(rng)
    servers = [_server(rng, name) for name in ("s", "t", "u")[: rng.choice((0, 1, 1, 1, 1, 2, 2, 3))]]
    routes = [_route(rng, name, servers) for name in ("q", "r")[: rng.choice((0, 0, 1, 1, 2))] if servers]
    known = authentications(rng)
    found += servers + routes + known
    targets = (servers, routes, known)
    found += [policy(rng, f"p{place}", targets) for place in range(rng.choice((1, 2, 3, 3, 4, 5)))]
    if often(rng, 0.15) and any(one["apiVersion"] == LINKERD for one in servers):
        found.append(server_authorization(rng))
    if often(rng, 0.02):
        found.append(document(rng, OURS, "RegoPolicy", "g", {"targetRef": target(rng, servers, routes)}))
    for one in found:
        if one["kind"] not in ("Deployment", "Namespace", "MeshDefaults") and often(rng, 0.022):
            _spoil(rng, one)
    rng.shuffle(found)
    return found


def _access_annotations(rng: Random) -> dict[str, str]:
    key = rng.choice(("policyd.dev/default-access", "config.linkerd.io/default-inbound-policy"))
    found = {key: rng.choice((*ACCESSES, "all-unauthenticated", "nonsense"))} if often(rng, 0.22) else {}
    if often(rng, 0.08):
        found[rng.choice(("policyd.dev/opaque-ports", "config.linkerd.io/opaque-ports"))] = rng.choice(
            ("7000", "admin,7000", "7000-7010,3306")
        )
    return found


def _deployment(rng: Random) -> Document:
    container: Document = {
        "name": "app",
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}],
    }
    if often(rng, 0.4):
        container["livenessProbe"] = {"httpGet": {"path": rng.choice(("/healthz", "/a?k=v")), "port": "http"}}
        container["readinessProbe"] = {"tcpSocket": {"port": rng.choice((8080, 7000))}}
        container["startupProbe"] = {"grpc": {"port": rng.choice((8080, 9090, 7000))}}
    pod = {"serviceAccountName": "w", "containers": [container]}
    metadata = {"labels": {"app": "w", "tier": "back"}, "annotations": _access_annotations(rng)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "w", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": "w"}}, "template": {"metadata": metadata, "spec": pod}},
    }


def _namespace(rng: Random, name: str) -> Document:
    labels = {"team": rng.choice(("red", "blue"))}
    annotations = _access_annotations(rng) if often(rng, 0.5) else {}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
    }


def _external(rng: Random) -> list[Document]:
    identity = rng.choice(("ns/n/sa/x", "ns/n/sa/x", "ns/m/sa/c", "job/x"))
    spec = {
        "meshTLS": {"identity": f"spiffe://cluster.local/{identity}", "serverName": "x.n.sa.cluster.local"},
        "ports": [{"name": "http", "port": 8080}],
        "workloadIPs": [{"ip": "10.0.9.9"}],
    }
    labels = {"app": "w"}
    metadata = {"name": "x", "namespace": "n", "labels": labels}
    own: Document = {"apiVersion": "workload.linkerd.io/v1beta1", "kind": "ExternalWorkload"}
    server = document(
        rng, OURS, "Server", "xs", {"externalWorkloadSelector": {"matchLabels": labels}, "port": "http"}
    )
    server["spec"]["accessPolicy"] = rng.choice(ACCESSES)
    return [{**own, "metadata": metadata, "spec": spec}, server]


def _server(rng: Random, name: str) -> Document:
    port = pick(rng, (("http", 6), (8080, 3), ("admin", 1), (5432, 1), (7000, 1), ("absent", 0.1)))
    spec: Document = {"podSelector": _pod_selector(rng), "port": port}
    protocol = pick(rng, PROTOCOLS)
    if protocol:
        spec["proxyProtocol"] = protocol
    if often(rng, 0.8):
        spec["accessPolicy"] = rng.choice((*ACCESSES, "audit", "audit", *4 * ("all-unauthenticated",)))
    linkerd = often(rng, 0.3)
    if not linkerd and often(rng, 0.15):
        spec["pathMode"] = pick(rng, (("merge", 6), ("strict", 2), ("opaque", 2)))
    one = document(rng, LINKERD if linkerd else OURS, "Server", name, spec)
    one["metadata"]["labels"] = {"app": rng.choice(("w", "v"))}
    return one


def _pod_selector(rng: Random) -> Document:
    found: Document = pick(
        rng,
        (
            ({"matchLabels": {"app": "w"}}, 6),
            ({}, 3),
            ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["back", "front"]}]}, 1),
            ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, 0.3),
        ),
    )
    return found


def _route(rng: Random, name: str, servers: list[Document]) -> Document:
    parents = [parent(rng.choice(servers[:1] * 3 + servers))]
    if often(rng, 0.1):
        parents.append({"group": "", "kind": "Service", "name": "w"})
    spec: Document = {"parentRefs": parents}
    if often(rng, 0.25):
        spec["hostnames"] = rng.sample(HOSTS, rng.choice((1, 2)))
    grpc = often(rng, 0.3)
    rules = [_grpc_rule(rng) if grpc else _http_rule(rng) for _ in range(rng.choice((1, 1, 2)))]
    if often(rng, 0.7):
        rules.append({})
    spec["rules"] = rules
    if grpc:
        return document(rng, GATEWAY, "GRPCRoute", name, spec)
    return document(rng, rng.choice((GATEWAY, GATEWAY, LINKERD)), "HTTPRoute", name, spec)


def _http_rule(rng: Random) -> Document:
    rule: Document = {"matches": [_http_match(rng) for _ in range(rng.choice((1, 1, 2)))]}
    if often(rng, 0.04):
        rule["filters"] = [{"type": "URLRewrite", "urlRewrite": {"hostname": "example.com"}}]
    return rule


def _http_match(rng: Random) -> Document:
    match: Document = {}
    kind = pick(rng, (("PathPrefix", 5), ("Exact", 3), ("RegularExpression", 2), (None, 1)))
    if kind == "RegularExpression":
        match["path"] = {"type": kind, "value": rng.choice(("/a(/.*)?", "/[a-z]+", "/.*", "/admin|/a/b"))}
    elif kind:
        match["path"] = {"type": kind, "value": rng.choice(PATHS)}
    if often(rng, 0.2):
        match["method"] = rng.choice(("GET", "POST"))
    if often(rng, 0.2):
        match["headers"] = [_named(rng, "x-env", ("a", "b"))]
    if often(rng, 0.15):
        match["queryParams"] = [_named(rng, "k", ("v", "w"))]
    return match


def _named(rng: Random, name: str, values: tuple[str, ...]) -> Document:
    if often(rng, 0.3):
        return {"type": "RegularExpression", "name": name, "value": f"[{''.join(values)}]"}
    return {"name": name, "value": rng.choice(values)}


def _grpc_rule(rng: Random) -> Document:
    method = pick(
        rng,
        (
            ({"service": "s.S", "method": "M"}, 3),
            ({"service": "s.S"}, 2),
            ({"method": "M"}, 2),
        ),
    )
    match: Document = {"method": method}
    if often(rng, 0.2):
        match["headers"] = [_named(rng, "x-env", ("a", "b"))]
    return {"matches": [match]}


def _spoil(rng: Random, one: Document) -> None:
    """Make an object unreadable in one of the ways people do."""
    spec = one["spec"]
    kind = one["kind"]
    if kind in ("AuthorizationPolicy", "Server", "HTTPRoute") and often(rng, 0.4):
        every: Document = {
            "AuthorizationPolicy": {
                "action": "Block",
                "mode": "Dry",
                "targetRef": {"kind": "Pod", "name": "w"},
            },
            "Server": {
                "port": 0,
                "proxyProtocol": "http",
                "podSelector": {"matchLabel": {}},
                "accessPolicy": "open",
            },
            "HTTPRoute": {"rules": [{"matches": [{"path": {"type": "Glob", "value": "/a*"}}]}]},
        }
        ways = every[kind]
        key = rng.choice(sorted(ways))
        spec[key] = ways[key]
    elif kind in ("HTTPRoute", "GRPCRoute"):
        spec["rules"][0]["filters"] = [{"type": "ExtensionRef"}]
    else:
        spec["unknown"] = True
