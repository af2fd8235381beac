"""From rows to bytes, and back to where a row was written."""

import json
from pathlib import Path

import pytest

from policyd import engine
from policyd.compile import compiler as module
from policyd.compile.compiler import parse_origin
from policyd.compile.rows import WorkloadPart, encode
from policyd.compile.table import encode_workload
from policyd.compile.world import changes_of, compile_all, load_world
from policyd.errors import SnapshotError
from policyd.model.names import ObjectKey
from policyd.sources.events import Added, Batch, Deleted
from tests.unit.policyd.compile.worlds import (
    DEPLOYMENT,
    ROUTE,
    SERVER,
    WEB,
    ask,
    compiled,
    mesh,
    objects,
    policy,
    rules,
)

MISSING = "[{group: policyd.dev, kind: MeshTLSAuthentication, name: nobody}]"
NOWHERE = "[{group: policyd.dev, kind: NetworkAuthentication, name: nowhere}]"


def test_pc_02_rows_survive_their_bytes_empty_sets_included() -> None:
    when = ", when: [{header: {name: a, exists: true}}]"
    found = compiled(
        DEPLOYMENT,
        SERVER,
        ROUTE,
        policy("empty", "", MISSING),
        policy("nowhere", when, NOWHERE),
        policy("read", ", mode: Audit, action: Deny", target="HTTPRoute/read"),
        mesh("{clusterNetworks: [], require: [{name: a, identities: ['spiffe://other/*'], mode: Audit}]}"),
    )
    table = found.tables[WEB]
    rows = json.loads(engine.Table(table.snapshot).rows())
    cluster = engine.encode_cluster(json.dumps(rows["cluster"]).encode())
    workload = engine.encode_workload(json.dumps(rows["workload"]).encode())
    assert engine.assemble(cluster, workload) == table.snapshot
    again = engine.encode_workload(encode(table.workload))
    assert engine.version(engine.assemble(cluster, again)) == table.version
    assert {"any_of": [], "except": []} in rows["workload"]["pools"]["identities"]
    assert ask(found, identity="spiffe://cluster.local/ns/books/sa/a")["verdict"] == "deny"


def test_a_row_says_where_it_was_written() -> None:
    found = compiled(DEPLOYMENT, SERVER, policy("guard", ", action: Deny", MISSING))
    (rule,) = rules(found, 8080)
    where = found.locate(rule.origin)
    assert where is not None
    assert where.text.startswith("world.yaml:")
    assert where.line > 1
    assert found.locate("policyd.dev/Server/books/gone:spec") is None
    assert parse_origin("core/Namespace/books:") == (ObjectKey("", "Namespace", "", "books"), "")
    with pytest.raises(ValueError, match="no origin"):
        parse_origin("whatever")


def test_a_workload_whose_rows_the_engine_refuses_refuses_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compiled(DEPLOYMENT, SERVER, policy("p", ""))
    assert ask(found)["verdict"] == "allow"

    def refuse(rows: WorkloadPart) -> bytes:
        if rows.ports:
            raise SnapshotError("too large")
        return encode_workload(rows)

    (grant,) = objects(policy("q", ""))
    with monkeypatch.context() as patched:
        patched.setattr(module, "encode_workload", refuse)
        assert found.apply([(grant.key, grant)]) == {WEB}
    assert ask(found)["reason"] == "policy_unreadable"
    (failure,) = found.tables[WEB].findings
    assert "books" in failure.text
    assert "too large" in failure.text
    (again,) = objects(policy("q", ", validUntil: '2030-01-01T00:00:00Z'"))
    assert found.apply([(again.key, again)]) == {WEB}
    assert ask(found)["verdict"] == "allow"
    assert not found.failures


def test_cluster_rows_that_the_engine_refuses_refuse_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compiled(DEPLOYMENT, SERVER, policy("p", ""))

    def refuse(rows: object) -> bytes:
        raise SnapshotError("too large")

    (defaults,) = objects(mesh("{revoked: [{podUID: u}]}"))
    with monkeypatch.context() as patched:
        patched.setattr(module, "encode_cluster", refuse)
        assert found.apply([(defaults.key, defaults)]) == {WEB}
    assert ask(found)["reason"] == "policy_unreadable"
    assert found.apply([(defaults.key, None)]) == {WEB}
    assert ask(found)["verdict"] == "allow"


def test_files_and_batches_make_the_same_world(tmp_path: Path) -> None:
    path = tmp_path / "world.yaml"
    path.write_text("---\n".join((DEPLOYMENT, SERVER, policy("p", ""))))
    loaded = load_world([path])
    assert not loaded.unreadable
    assert not loaded.findings
    found = compiled()
    batch = Batch(1, tuple(Added(each) for each in loaded.world.objects.values()))
    assert found.apply(changes_of(batch)) == {WEB}
    assert found.tables[WEB].snapshot == compile_all(loaded.world)[WEB].snapshot
    gone = Batch(2, (Deleted(ObjectKey("apps", "Deployment", "books", "web")),))
    assert found.apply(changes_of(gone)) == {WEB}
    assert found.table(WEB) is None


def test_a_moved_line_changes_no_table_but_its_findings() -> None:
    found = compiled(DEPLOYMENT, SERVER, "\n".join(("", "", policy("p", ""))))
    version = found.tables[WEB].version
    (moved,) = objects("\n\n\n\n\n\n\n\n\n\n\n" + policy("p", ""))
    assert found.apply([(moved.key, moved)]) == frozenset()
    assert found.tables[WEB].version == version
    where = found.locate(rules(found, 8080)[0].origin)
    assert where is not None
    assert where.line == moved.position("spec").line
