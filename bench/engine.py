"""Decisions, gate and explain in Rust, and the loading of large snapshots."""

from __future__ import annotations

import json
import subprocess
from statistics import median
from time import perf_counter

from policyd import engine


def run() -> list[dict[str, object]]:
    """Return the rows of the Rust bench (release profile) and of snapshot loading."""
    command = ["cargo", "bench", "--quiet", "--package", "engine", "--bench", "decision"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return rows + [_load(size) for size in (1_000, 10_000, 100_000)]


def _load(size: int) -> dict[str, object]:
    cluster = engine.encode_cluster(json.dumps({"reader_version": 1, "trust_domain": "td"}).encode())
    start = perf_counter()
    workload = engine.encode_workload(json.dumps(_rows(size)).encode())
    encode = perf_counter() - start
    snapshot = engine.assemble(cluster, workload)
    loads = []
    for _ in range(5):
        start = perf_counter()
        engine.Table(snapshot)
        loads.append(perf_counter() - start)
    return {
        "bench": "snapshot",
        "rules": size,
        "bytes": len(snapshot),
        "encode_ms": round(encode * 1e3, 1),
        "load_ms": round(median(loads) * 1e3, 1),
    }


def _rows(size: int) -> dict[str, object]:
    port = {"protocol": 1, "access": 1, "path_mode": 1, "cluster_conditions": 1}
    return {
        "reader_version": 1,
        "pools": {"identities": [{"any_of": [f"spiffe://td/ns/n/sa/s{n}"]} for n in range(size)]},
        "rules": [
            {
                "effect": 1,
                "level": 1,
                "authorization": f"authorizationpolicy.policyd.dev/n/p{n}",
                "origin": "o",
                "scope": 3,
                "route": n,
                "identity": 2,
                "identities": n,
                "network": 1,
            }
            for n in range(size)
        ],
        "routes": [
            {
                "name": f"httproute.policy.linkerd.io/n/r{n}",
                "origin": "o",
                "kind": 1,
                "rules": [{"matches": [{"path_test": 2, "path": f"/p{n}"}]}],
            }
            for n in range(size)
        ],
        "ports": [{"number": 80, "rules": list(range(size)), "routes": list(range(size)), **port}],
        "other": {"number": 0, **port},
    }
