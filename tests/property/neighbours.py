"""What a tenant who means harm could write into a namespace of its own: valid, broken, huge, about others."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

from tests.reference.generate import world as generate_world

Document = dict[str, Any]
Random = random.Random

VICTIM, NEIGHBOUR = "n", "m"
VICTIM_EXTERNAL = "spiffe://cluster.local/ns/n/sa/x"
VICTIM_ADDRESSES = ("10.0.9.9", "10.0.1.5", "203.0.113.9", "10.96.0.7")
"""Of its ExternalWorkload, its pod, a machine that it calls, its Service."""

_OURS, _LINKERD = "policyd.dev/v1alpha1", "policy.linkerd.io"
_GATEWAY = "gateway.networking.k8s.io"
_NOBODYS = ("Namespace", "MeshDefaults", "Node")
"""Kinds that aren't a tenant's: cluster-scoped."""

JUNK: tuple[Callable[[], object], ...] = (
    lambda: None,
    lambda: -1,
    lambda: 2**63,
    lambda: 1.5,
    lambda: True,
    lambda: "",
    lambda: "*",
    lambda: VICTIM,
    lambda: VICTIM_EXTERNAL,
    lambda: "x" * 70_000,
    lambda: "\x00\x1b[2J\u202e",
    lambda: "(a*)*b",
    list,
    dict,
    lambda: [None, {}, []],
    lambda: ["x"] * 2_000,
    lambda: {f"k{number}": "v" for number in range(2_000)},
    lambda: _deep(60),
)


def _deep(levels: int) -> object:
    found: object = {}
    for _ in range(levels):
        found = {"a": [found]}
    return found


def neighbours(rng: Random) -> list[Document]:
    """Return the objects of a namespace `m`, some of which try to reach into `n`."""
    found = [_moved(one) for one in generate_world(rng) if one["kind"] not in _NOBODYS]
    found += [_pointed(rng, one) for one in _intruders(rng)]
    found += [_broken(rng, one) for one in rng.sample(found, min(4, len(found)))]
    rng.shuffle(found)
    return list({_key(one): one for one in found}.values())


def _key(one: Document) -> tuple[str, str, str]:
    return one["apiVersion"], one["kind"], one["metadata"]["name"]


def _moved(one: Document) -> Document:
    """The same object, of the neighbour's; what it says of namespaces stays, so some of it is about `n`."""
    moved = copy.deepcopy(one)
    moved["metadata"]["namespace"] = NEIGHBOUR
    return moved


def _pointed(rng: Random, one: Document) -> Document:
    """Say in some references that they mean the victim's object."""
    for reference in _references(one.get("spec")):
        if rng.random() < 0.7:
            reference["namespace"] = VICTIM
    return one


def _references(value: object) -> list[Document]:
    if isinstance(value, dict):
        own = [value] if "name" in value and "kind" in value else []
        return own + [each for inner in value.values() for each in _references(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in _references(inner)]
    return []


def _broken(rng: Random, one: Document) -> Document:
    """Something somewhere in it is other than it should be; it may have replaced the one it came from."""
    broken = copy.deepcopy(one)
    if rng.random() < 0.5:
        broken["metadata"]["name"] += "-broken"
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                collect(value[key])

    collect({"spec": broken.get("spec", {})})
    for _ in range(rng.choice((1, 1, 2, 4))):
        container, key = rng.choice(places)
        container[key] = rng.choice(JUNK)()
    if rng.random() < 0.1:
        broken["spec"] = rng.choice(JUNK)()
    return broken


def _object(version: str, kind: str, name: str, **rest: Any) -> Document:
    metadata = {"name": name, "namespace": NEIGHBOUR, **rest.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _intruders(rng: Random) -> list[Document]:
    """Objects that name what is the victim's: its namespace, Server, routes, identities and addresses."""
    everyone: Document = {"requiredAuthenticationRefs": []}
    server = {"group": "policyd.dev", "kind": "Server", "name": "s"}
    made = [
        _policy("grant", {"kind": "Namespace", "name": VICTIM}, "Allow"),
        _policy("refuse", {"kind": "Namespace", "name": VICTIM}, "Deny"),
        _policy("floor", dict(server), "Require"),
        _policy("refuse-server", dict(server), "Deny"),
        _policy("refuse-route", {"group": _GATEWAY, "kind": "HTTPRoute", "name": "q"}, "Deny"),
        _object(
            f"{_LINKERD}/v1alpha1",
            "AuthorizationPolicy",
            "linkerd",
            spec={"targetRef": dict(server)} | everyone,
        ),
        _object(
            f"{_LINKERD}/v1beta1",
            "ServerAuthorization",
            "all",
            spec={"server": {"selector": {}}, "client": {"unauthenticated": True}},
        ),
        _object(
            _OURS,
            "Server",
            "s",
            spec={"podSelector": {}, "port": 8080, "accessPolicy": "all-unauthenticated"},
        ),
        _object(_OURS, "Server", "lost", spec={"podSelector": {"matchLabel": {}}, "port": 0}),
        _object(f"{_GATEWAY}/v1", "HTTPRoute", "q", spec={"parentRefs": [dict(server)], "rules": [{}]}),
        _object(f"{_GATEWAY}/v1", "HTTPRoute", "lost", spec={"parentRefs": 1, "rules": [{}]}),
        _object(
            f"{_GATEWAY}/v1beta1",
            "ReferenceGrant",
            "reach",
            spec={
                "from": [{"group": "policyd.dev", "kind": "Server", "namespace": VICTIM}],
                "to": [{"group": "", "kind": "Service"}],
            },
        ),
        *_many_conditions(rng),
        *_workloads(rng),
    ]
    return rng.sample(made, rng.randint(3, len(made)))


def _policy(name: str, target: Document, action: str) -> Document:
    spec = {"action": action, "targetRef": target, "requiredAuthenticationRefs": []}
    return _object(_OURS, "AuthorizationPolicy", name, spec=spec)


def _many_conditions(rng: Random) -> list[Document]:
    """Now and then more than one Server can have (semantics V7, V8)."""
    if rng.random() > 0.1:
        return []
    found = []
    for number in range(300):
        one = _policy(
            f"many-{number}", {"kind": "Namespace", "name": rng.choice((NEIGHBOUR, VICTIM))}, "Deny"
        )
        one["spec"]["when"] = [{"path": {"prefix": f"/{number}"}}]
        found.append(one)
    return found


def _workloads(rng: Random) -> list[Document]:
    """Pods, a Service and an ExternalWorkload that claim labels, owners, identities and addresses of `n`."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w", "uid": "d", "controller": True}
    ports = rng.choice(("1-32000", "1-65535", "0-9", "x" * 5_000, ",".join(map(str, range(1, 4_000, 2)))))
    annotations = {
        "policyd.dev/opaque-ports": ports,
        "policyd.dev/default-access": rng.choice(("audit", "x")),
    }
    labels = {f"label-{number}": "v" for number in range(rng.choice((0, 500)))}
    container = {"name": "policyd-proxy", "ports": [{"name": "http", "containerPort": 8080}]}
    pod = _object(
        "v1",
        "Pod",
        "w-1-a",
        metadata={
            "uid": "u-m",
            "labels": {"app": "w", "tier": "back", **labels},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        spec={
            "serviceAccountName": "w",
            "hostNetwork": True,
            "nodeName": "node-1",
            "containers": [container],
        },
        status={"phase": "Running", "podIP": "10.9.0.1", "hostIP": "10.9.0.1"},
    )
    external = _object(
        "workload.linkerd.io/v1beta1",
        "ExternalWorkload",
        "x",
        spec={
            "meshTLS": {"identity": VICTIM_EXTERNAL, "serverName": "x.n.sa.cluster.local"},
            "ports": [{"name": "http", "port": 8080}],
            "workloadIPs": [{"ip": address} for address in rng.sample(VICTIM_ADDRESSES, 2)],
        },
    )
    own = copy.deepcopy(external)
    own["metadata"]["name"] = "y"
    own["spec"]["meshTLS"]["identity"] = "spiffe://cluster.local/ns/m/sa/y"
    slice_of = _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "w-1",
        metadata={"labels": {"kubernetes.io/service-name": "w"}},
        addressType="IPv4",
        endpoints=[{"addresses": ["10.0.1.99"], "conditions": {"ready": False}}],
        ports=[],
    )
    service = _object(
        "v1",
        "Service",
        "w",
        spec={"clusterIP": "10.96.0.8", "selector": {"app": "w"}, "ports": [{"port": 80}]},
    )
    return [pod, external, own, slice_of, service]
