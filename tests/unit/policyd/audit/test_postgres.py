"""The store in PostgreSQL: what SQLite's tests show, of it, and what only several writers can show."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from policyd import engine
from policyd.audit import committing, heads, keeping, postgres, retention
from policyd.audit.asks import answer
from policyd.audit.chain import Head
from policyd.audit.keeping import DatabaseStore
from policyd.audit.postgres import PostgresDatabase
from policyd.audit.record import Writer
from policyd.audit.retention import Bounds
from policyd.audit.store import Content, Filter
from policyd.audit.verify import Result, verify_trail
from policyd.audit.verify_postgres import PostgresTrail
from policyd.cli.exit_codes import ExitCode
from policyd.cli.main import run
from policyd.errors import ChainRefused, StoreUnavailable
from tests.postgres.server import PostgresServer

from .conftest import NOW, OWN, WAIT_SECONDS, Chain, RealSigner, deliver, denial, identifier, until

RECORDS = 6


class Deposit:
    """A database, the stores that are open on it, and who looks behind their backs."""

    def __init__(self, server: PostgresServer, signer: RealSigner, folder: Path) -> None:
        self.server = server
        self.signer = signer
        self.connection = server.database()
        self.file = folder / "connection"
        self.file.write_text(self.connection + "\n")
        self._open: list[DatabaseStore] = []

    def store(self, bounds: Bounds | None = None) -> DatabaseStore:
        store = DatabaseStore(PostgresDatabase(self.file), OWN, self.signer, bounds or Bounds())
        store.start()
        self._open.append(store)
        return store

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def edit(self, *statements: str) -> None:
        with psycopg.connect(self.connection) as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.connection) as connection:
            return connection.execute(sql).fetchall()

    def checked(self, *, trusting: bool = False) -> Result:
        pem = x509.load_pem_x509_certificates(self.signer.roots.read_bytes())
        roots = () if trusting else tuple(each.public_bytes(Encoding.DER) for each in pem)
        return verify_trail(PostgresTrail(self.file), engine.version, roots)


@pytest.fixture
def deposit(postgres: PostgresServer, signer: RealSigner, tmp_path: Path) -> Iterator[Deposit]:
    made = Deposit(postgres, signer, tmp_path)
    yield made
    made.close()


@pytest.fixture
def kept(deposit: Deposit, chain: Chain) -> Deposit:
    """Two chains and some bytes, closed: its heads are signed."""
    store = deposit.store()
    deliver(store, chain, *(denial(number) for number in range(RECORDS)))
    deliver(store, Chain(chain.writer), denial(100), {"event": "lost", "count": 3, "reason": "spool_full"})
    facts = b"facts"
    store.keep([Content("facts", f"sha256:{hashlib.sha256(facts).hexdigest()}", facts)])
    deposit.close()
    return deposit


def test_an_untouched_store_is_well(kept: Deposit, capsys: pytest.CaptureFixture[str]) -> None:
    result = kept.checked()
    assert (result.tampered, result.chains, result.records, result.lost) == ([], 2, 8, 3)
    words = ["audit", "verify", "--postgres", str(kept.file), "--roots", str(kept.signer.roots)]
    assert run(words) == ExitCode.DONE
    assert "nobody changed it: 8 records in 2 chains" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("statements", "sequence"),
    [
        (["UPDATE records SET json = json || 'x' WHERE place = 3"], 3),
        (["UPDATE records SET reason = 'allowed' WHERE place = 4"], 4),
        (["UPDATE records SET time_millis = 1 WHERE place = 2"], 2),
        (["DELETE FROM records WHERE place = 3"], 3),
        (["DELETE FROM records WHERE place = 1"], 1),
        (["DELETE FROM records WHERE place = 6"], 6),
        (
            [
                "DELETE FROM records WHERE place = 6",
                "UPDATE chains SET head_sequence = 5, head_sha256 = "
                "(SELECT sha256 FROM records WHERE place = 5) WHERE number = 1",
            ],
            6,
        ),
        (
            [
                "UPDATE chains SET removed_sequence = 2, removed_sha256 = (SELECT sha256 FROM records "
                "WHERE place = 2) WHERE number = 1",
                "DELETE FROM records WHERE place <= 2",
            ],
            1,
        ),
        (["DELETE FROM records WHERE chain = 1", "DELETE FROM chains WHERE number = 1"], 1),
        (["UPDATE chains SET namespace = 'bank' WHERE number = 1"], 1),
        (["UPDATE contents SET content = 'x'"], None),
        (["UPDATE meta SET value = 'another' WHERE name = 'store'"], None),
        (["DELETE FROM heads"], None),
        (["DELETE FROM heads WHERE number = (SELECT MAX(number) FROM heads)"], None),
        (["UPDATE heads SET line = line || ' '"], None),
        (
            ["UPDATE heads SET line = decode(replace(encode(line, 'hex'), '73686f70', '62616e6b'), 'hex')"],
            None,
        ),
        (["DROP TABLE records"], None),
    ],
)
def test_au_01_what_somebody_changed_in_postgresql_is_named(
    kept: Deposit, statements: list[str], sequence: int | None
) -> None:
    kept.edit(*statements)
    result = kept.checked()
    assert result.tampered
    if sequence is not None:
        assert sequence in {finding.sequence for finding in result.tampered}


def test_replicas_continue_one_line_of_heads(deposit: Deposit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "HEADS_SECONDS", 0.0)
    stores = [deposit.store() for _ in range(3)]
    chains = [
        Chain(Writer(f"spiffe://test/ns/shop/sa/c{n}", f"uid-{n}", "shop", f"c-{n}", "deployment/shop/c"))
        for n in range(3)
    ]
    for round_ in range(10):
        for number, (store, chain) in enumerate(zip(stores, chains, strict=True)):
            names = {"pod": chain.writer.pod, "workload": chain.writer.workload}
            deliver(store, chain, denial(round_ * 10 + number, **names))
            assert deposit.checked().tampered == []
    deposit.close()
    result = deposit.checked()
    assert (result.tampered, result.records) == ([], 30)
    assert deposit.rows("SELECT COUNT(*) FROM heads")[0][0] > 3


def test_a_chain_goes_on_with_another_replica(deposit: Deposit, chain: Chain) -> None:
    first, second = deposit.store(), deposit.store()
    deliver(first, chain, denial(0), denial(1))
    assert second.greet(chain.writer, chain.name, chain.head(1)).result(WAIT_SECONDS) == 2
    assert deliver(second, chain, denial(2)) == 3
    again = first.append(chain.writer, chain.name, chain.links).result(WAIT_SECONDS)
    assert again == 3
    assert [row["sequence"] for row in first.records(Filter(), 10)] == [1, 2, 3]
    assert first.find(identifier(2))[0]["json"] == chain.links[2].json, "any replica answers for all"


def test_places_follow_one_another_as_they_can_be_seen(deposit: Deposit) -> None:
    """Whoever has read up to a place has missed nothing below it, with all replicas writing at once."""
    stores = [deposit.store() for _ in range(3)]
    until(lambda: all(store.standing.problem is None for store in stores))
    seen: list[int] = []
    ended = threading.Event()

    def write(store: DatabaseStore, number: int) -> None:
        writer = Writer(
            f"spiffe://test/ns/shop/sa/c{number}", f"u{number}", "shop", f"c-{number}", "deployment/shop/c"
        )
        chain = Chain(writer)
        for at in range(60):
            deliver(store, chain, denial(at, pod=writer.pod, workload=writer.workload))

    def follow() -> None:
        rows: Sequence[Mapping[str, Any]] = [{}]
        last = False
        while rows or not last:
            last = ended.is_set()  # what is read from here on is all there is
            rows = stores[0].records(Filter(after=seen[-1] if seen else -1), 1000)
            seen.extend(row["place"] for row in rows)

    threads = [threading.Thread(target=write, args=(store, number)) for number, store in enumerate(stores)]
    reader = threading.Thread(target=follow)
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    reader.join()
    assert len(seen) == 180
    assert seen == sorted(seen)


def test_what_a_chain_may_not_is_refused(deposit: Deposit, chain: Chain) -> None:
    store = deposit.store()
    deliver(store, chain, denial(0))
    chain.add(denial(1), denial(2))
    with pytest.raises(ChainRefused, match="CHAIN_BROKEN"):
        store.append(chain.writer, chain.name, chain.links[2:]).result(WAIT_SECONDS)
    with pytest.raises(ChainRefused, match="CHAIN_BROKEN"):
        store.append(chain.writer, chain.name, chain.links[1:]).result(WAIT_SECONDS)
    other = Chain()
    with pytest.raises(ChainRefused, match="ROLLED_BACK"):
        store.greet(other.writer, other.name, Chain().head() if other.links else _somewhere()).result(
            WAIT_SECONDS
        )
    until(lambda: store.standing.rolled_back == 1)
    foreign = Chain()
    with pytest.raises(ChainRefused, match="WRONG_WRITER"):
        store.append(foreign.writer, foreign.name, foreign.add(denial(0, namespace="bank"))).result(
            WAIT_SECONDS
        )


def _somewhere() -> Any:
    return Head(7, b"\x01" * 32)


def test_au_05_hostile_bytes_are_kept_and_verify(deposit: Deposit, chain: Chain) -> None:
    store = deposit.store()
    texts = ["/a\u0000b", "/\u202e", "ü" * 600, "%s %(x)s ?"]
    records: list[Any] = [
        denial(at, request={"method": "GET", "path": text}) for at, text in enumerate(texts)
    ]
    deliver(
        store, chain, *records, b"\xff\xfe", b"[1]", b'{"event": 7}', json.dumps({"port": 2**70}).encode()
    )
    rows = store.records(Filter(events=("denial", "unreadable")), 100)
    assert [row["json"] for row in rows] == [link.json for link in chain.links]
    deposit.close()
    assert deposit.checked().tampered == []


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"reason": "no_identity"}, 1),
        ({"peer": "shop/web"}, 3),
        ({"peer": "10.9.9.9"}, 1),
        ({"workload": "deployment/shop/cart"}, 4),
        ({"namespace": "bank"}, 0),
        ({"until": NOW + 2}, 2),
        ({"since": NOW + 2}, 2),
        ({"before": 3}, 2),
        ({"after": 3}, 1),
    ],
)
def test_filters(deposit: Deposit, chain: Chain, given: dict[str, Any], count: int) -> None:
    store = deposit.store()
    other = {"peer": {"ip": "10.9.9.9", "identity": None}, "reason": "no_identity"}
    deliver(store, chain, denial(0), denial(1), denial(2), denial(3, **other))
    deliver(store, chain, {"event": "lost", "count": 2, "reason": "spool_full"})
    assert len(store.records(Filter(**given), 10)) == count
    assert sum(row["denials"] for row in store.groups(Filter(**given), 10)) == count
    assert len(store.gaps(Filter())) == 1
    assert len(answer(store, {"ask": "denials", "by": "group"})["denials"]) == 2


def test_tables_are_kept_by_their_hash(deposit: Deposit) -> None:
    store = deposit.store()
    until(lambda: store.standing.problem is None)
    store.keep([Content("table", "sha256:aa", b"\x00table")])
    store.keep([Content("table", "sha256:aa", b"\x00table")])
    store.note(
        json.dumps({"event": "table", "workload": "deployment/shop/cart", "table": "sha256:aa"}).encode()
    )
    until(lambda: bool(store.tables("deployment/shop/cart", 5)))
    assert store.content("sha256:aa") == b"\x00table"
    assert store.content("sha256:bb") is None


def test_retention_is_signed_for(deposit: Deposit, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RETENTION_SECONDS", 0.0)
    old, young = NOW - 1000, 4_000_000_000_000
    store = deposit.store(Bounds(age=timedelta(hours=1)))
    deliver(
        store,
        chain,
        denial(0, millis=old),
        denial(1, millis=old),
        denial(2, millis=young),
        denial(3, millis=old),
    )
    until(lambda: len(store.find(denial(0, millis=old)["id"])) == 0)
    assert len(store.find(denial(3, millis=old)["id"])) == 1, "only whole beginnings go"
    deposit.close()
    assert deposit.checked().tampered == []


def test_p_08_who_writes_most_loses_the_oldest_first(
    deposit: Deposit, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETENTION_SECONDS", 0.05)
    monkeypatch.setattr(retention, "CHUNK_ROWS", 50)
    quiet = Chain(Writer("spiffe://test/ns/bank/sa/vault", "uid-9", "bank", "vault-0", "deployment/bank/v"))
    store = deposit.store(Bounds(size_bytes=200_000))
    names = {
        "namespace": "bank",
        "pod": "vault-0",
        "workload": "deployment/bank/v",
        "millis": 4_000_000_000_000,
    }
    deliver(store, quiet, denial(0, **names))
    for start in range(0, 1000, 100):
        deliver(
            store, chain, *(denial(at, millis=4_000_000_000_000 + at) for at in range(start, start + 100))
        )
    until(lambda: store.rollbacks() == 0 and deposit.rows("SELECT COUNT(*) FROM records")[0][0] < 400)
    assert deposit.rows("SELECT COUNT(*) FROM records WHERE namespace = 'bank'") == [(1,)]
    deposit.close()
    assert deposit.checked().tampered == []


def test_heads_begin_anew_when_they_are_long(
    deposit: Deposit, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MOST_BYTES", 20_000)
    monkeypatch.setattr(keeping, "HEADS_SECONDS", 0.0)
    monkeypatch.setattr(committing, "TICK_SECONDS", 0.01)
    store = deposit.store()
    for at in range(60):
        deliver(store, chain, denial(at))
        time.sleep(0.012)  # a tick of the writer's, not of a result
    deposit.close()
    assert sum(len(line) for (line,) in deposit.rows("SELECT line FROM heads")) < 30_000
    assert deposit.checked().tampered == []
    [(first,)] = deposit.rows("SELECT line FROM heads ORDER BY number LIMIT 1")
    assert json.loads(json.loads(first)["payload"])["previous"] != heads.FIRST


def test_a_server_that_goes_away_is_said_and_waited_for(deposit: Deposit, chain: Chain) -> None:
    store = deposit.store()
    deliver(store, chain, denial(0))
    deposit.server.stop(at_once=True)
    try:
        with pytest.raises(StoreUnavailable):
            store.append(chain.writer, chain.name, chain.add(denial(1))).result(WAIT_SECONDS)
        with pytest.raises(StoreUnavailable):
            store.find(identifier(0))
        assert store.standing.problem is not None
    finally:
        deposit.server.start()
    until(lambda: store.standing.problem is None)
    assert store.append(chain.writer, chain.name, chain.links).result(WAIT_SECONDS) == 2
    assert len(store.find(identifier(1))) == 1


@pytest.mark.parametrize("text", ["", "no connection string", "host=/nowhere dbname=x password=geheim"])
def test_a_connection_that_is_none_is_said_without_its_secrets(
    tmp_path: Path, signer: RealSigner, text: str
) -> None:
    file = tmp_path / "connection"
    file.write_text(text)
    store = DatabaseStore(PostgresDatabase(file), OWN, signer, Bounds())
    store.start()
    until(lambda: store.standing.problem not in (None, "not opened yet"))
    assert "geheim" not in str(store.standing)
    store.close()


def test_a_database_of_somebody_else_is_left_alone(deposit: Deposit, chain: Chain) -> None:
    deposit.edit("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    store = deposit.store()
    until(lambda: "none of ours" in str(store.standing.problem))
    with pytest.raises(StoreUnavailable):
        deliver(store, chain, denial(0))
