"""The few names, paths, networks and conditions of generated worlds."""

import random
from typing import Any

Document = dict[str, Any]
Random = random.Random

ACCESSES = (
    "deny",
    "audit",
    "all-authenticated",
    "cluster-authenticated",
    "all-unauthenticated",
    "cluster-unauthenticated",
)
IDENTITIES = (
    "*",
    "spiffe://cluster.local/ns/n/sa/c",
    "spiffe://cluster.local/ns/n/sa/*",
    "spiffe://cluster.local/ns/m/sa/*",
    "spiffe://cluster.local/*",
    "spiffe://other.example/*",
    "spiffe://cluster.local/ns/n/sa/d",
)
PATHS = ("/", "/a", "/a/b", "/a/", "/A", "/a;x", "/admin", "/s.S/M")
HOSTS = ("w", "w.n", "api.example.com", "*.example.com", "*.b.example.com")


def often(rng: Random, probability: float) -> bool:
    return rng.random() < probability


def pick(rng: Random, weighted: tuple[tuple[Any, float], ...]) -> Any:
    return rng.choices([item for item, _ in weighted], [weight for _, weight in weighted])[0]


def document(rng: Random, version: str, kind: str, name: str, spec: Document) -> Document:
    """An object in namespace n; half of them with a time, of which few differ, so that ties occur."""
    metadata: Document = {"name": name, "namespace": "n"}
    if often(rng, 0.5):
        metadata["creationTimestamp"] = f"2026-01-0{rng.choice((1, 2, 3))}T00:00:00Z"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def network(rng: Random) -> Document:
    return rng.choice(
        (
            {"cidr": "10.0.0.0/8"},
            {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]},
            {"cidr": "203.0.113.0/24", "except": ["203.0.113.9"]},
            {"cidr": "0.0.0.0/0"},
            {"cidr": "fd00::/8"},
        )
    )


def networks(rng: Random) -> list[Document]:
    found = [network(rng)]
    if often(rng, 0.4):
        found.append(network(rng))
    return [one for place, one in enumerate(found) if one not in found[:place]]


def _test(rng: Random, values: tuple[str, ...], tests: tuple[str, ...]) -> Document:
    test = rng.choice(tests)
    if test == "exists":
        return {"exists": often(rng, 0.5)}
    if test == "prefix":
        return {"prefix": rng.choice(values)}
    return {test: rng.sample(values, rng.choice((1, 1, 2)))}


def condition(rng: Random) -> Document:
    """One item of `when`; paths and headers most often, as people write them."""
    subject = pick(rng, (("path", 4), ("header", 4), ("query", 2), ("method", 3), ("host", 2)))
    if subject == "path":
        return {"path": _test(rng, PATHS, ("prefix", "prefix", "in", "notIn"))}
    if subject == "header":
        name = pick(rng, (("x-env", 5), ("X-Env", 1), ("x-team", 1), ("cookie", 1)))
        return {"header": {"name": name, **_test(rng, ("a", "b", "c"), ("in", "notIn", "prefix", "exists"))}}
    if subject == "query":
        return {"query": {"name": "k", **_test(rng, ("v", "w", "v w"), ("in", "notIn", "prefix", "exists"))}}
    if subject == "method":
        return {"method": _test(rng, ("GET", "POST", "DELETE"), ("in", "notIn"))}
    return {"host": _test(rng, HOSTS, ("in", "notIn"))}
