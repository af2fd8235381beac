"""Compile from typed objects: 10,000 policies and 10,000 pods in 1,000 workloads, cold, and one change."""

from __future__ import annotations

import json
from statistics import median
from time import perf_counter

from bench.world import objects, policy
from policyd.compile.compiler import Compiler
from policyd.engine import Table
from policyd.index.world import World
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse

CHANGES = 20


def run() -> list[dict[str, object]]:
    """Return rows of figures, times in seconds or milliseconds as named."""
    found = objects()
    start = perf_counter()
    world = World()
    world.apply((item.key, item) for item in found)
    compiler = Compiler(world)
    tables = compiler.tables
    cold = perf_counter() - start
    changes = [_change(compiler, number) for number in range(CHANGES)]
    snapshot = next(iter(tables.values())).snapshot
    start = perf_counter()
    Table(snapshot)
    load = perf_counter() - start
    return [
        {"bench": "compile cold", "objects": len(found), "tables": len(tables), "s": round(cold, 2)},
        {
            "bench": "compile one change",
            "ms": round(median(changes) * 1e3, 2),
            "worst_ms": round(max(changes) * 1e3, 2),
        },
        {"bench": "load of one of these tables", "ms": round(load * 1e3, 3)},
    ]


def _change(compiler: Compiler, number: int) -> float:
    content = json.dumps(policy("ns-7", "w7", 100 + number)).encode()
    item = read(parse(content, "change.yaml").documents[0])
    if item is None:
        raise RuntimeError("the bench's own policy is no object")
    start = perf_counter()
    compiler.apply([(item.key, item)])
    return perf_counter() - start
