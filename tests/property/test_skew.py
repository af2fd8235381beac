"""A table written for an older reader allows nothing that the whole table refuses (promise P-16).

There is one version yet: on trial, conditions and matches on the query count as what version 2 brought.
`POLICYD_SKEW_WORLDS` scales it.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from typing import Any

import pytest

from policyd import engine
from policyd.compile.rows import encode as encode_rows
from policyd.compile.table import CompiledTable
from policyd.compile.world import compile_all
from policyd.errors import SnapshotError
from policyd.index.world import World
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse
from tests.property.differential import encode
from tests.reference.generate import world as generate_world
from tests.reference.generate_requests import question

WORLDS = int(os.environ.get("POLICYD_SKEW_WORLDS", "300"))
REQUESTS = 60
OLDER, NEWER = 1, 2


def _tables(rng: random.Random) -> dict[str, CompiledTable]:
    text = "\n---\n".join(json.dumps(document) for document in generate_world(rng))
    world = World()
    found = [one for one in map(read, parse(text.encode(), "world.yaml").documents) if one is not None]
    world.apply((one.key, one) for one in found)
    return {name.text: table for name, table in compile_all(world).items()}


def _written(table: CompiledTable, reader: int) -> bytes:
    """The snapshot that a policyd of version 2 writes for a reader."""
    cluster = engine.encode_cluster(encode_rows(table.cluster), reader, trial=True)
    return engine.assemble(cluster, engine.encode_workload(encode_rows(table.workload), reader, trial=True))


def _ask(table: engine.Table, body: dict[str, Any]) -> dict[str, Any]:
    port = int(body["to"].rpartition(":")[2])
    answer: dict[str, Any] = json.loads(table.decide(json.dumps(encode(body, port)).encode()))
    return answer


@pytest.mark.promise("P-16")
def test_p_16_an_older_reader_allows_nothing_that_the_table_refuses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: Counter[str] = Counter()
    for seed in range(WORLDS):
        rng = random.Random(seed)
        tables = _tables(rng)
        pairs = {
            name: (engine.Table(table.snapshot), engine.Table(_written(table, OLDER)))
            for name, table in tables.items()
        }
        for whole, older in pairs.values():
            seen["tables"] += 1
            seen["tables that say less"] += whole.version != older.version
        for _ in range(REQUESTS if pairs else 0):
            body = question(rng, sorted(pairs))
            whole, older = pairs[body["to"].rpartition(":")[0]]
            said, narrowed = _ask(whole, body), _ask(older, body)
            seen["requests"] += 1
            seen["refused for it"] += said["verdict"] != narrowed["verdict"]
            if narrowed["verdict"] == "allow" and said["verdict"] != "allow":
                # Only the gate's guard of names that rules read: of a rule that refuses anyway it reads none.
                assert said["reason"].startswith("invalid_request"), (seed, body, said, narrowed)
                seen["guarded names"] += 1
    with capsys.disabled():
        print(f"\nskew: {dict(seen)}")  # noqa: T201 — how much of it there was
    assert seen["tables that say less"] > WORLDS // 20
    assert seen["refused for it"] > WORLDS // 20


@pytest.mark.promise("P-16")
def test_p_16_what_needs_the_newer_version_is_refused_by_the_older_and_the_rest_is_the_same() -> None:
    needing = 0
    for seed in range(60):
        for table in _tables(random.Random(seed)).values():
            newest = _written(table, NEWER)
            if newest == table.snapshot:
                assert _written(table, OLDER) == table.snapshot
                continue
            needing += 1
            with pytest.raises(SnapshotError, match="needs reader version 2"):
                engine.Table(newest)
    assert needing
