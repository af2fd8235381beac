"""Promise P-12: whatever somebody does to a kept history, a verifier apart from the writer sees it.

Random histories of several writers, with restarts; random changes of the database, its file and the heads.
What nobody can see is left out, and said in docs/reference/audit-store.md: records that are added behind the
last signed end.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policyd import engine
from policyd.audit.record import COLUMNS, Writer, read_facets
from policyd.audit.sqlite import SqliteStore
from policyd.audit.store import Content
from policyd.audit.verify import verify
from policyd.audit.verify_columns import columns_of
from tests.unit.policyd.audit.conftest import OWN, WAIT_SECONDS, Chain, RealSigner, denial

EXAMPLES = 100


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> RealSigner:
    return RealSigner(tmp_path_factory.mktemp("root") / "root")


def writer(number: int) -> Writer:
    name = f"cart-{number}"
    return Writer(
        f"spiffe://test/ns/shop/sa/{name}", f"uid-{number}", "shop", name, f"deployment/shop/{name}"
    )


@contextmanager
def history(rng: random.Random, signer: RealSigner) -> Iterator[tuple[Path, Path]]:
    """A store that was closed, and a copy of how it was at an earlier stop."""
    with tempfile.TemporaryDirectory() as base:
        folder, before = Path(base) / "audit", Path(base) / "before"
        chains = [Chain(writer(number)) for number in range(rng.randint(1, 3))]
        for run in range(2):
            store = SqliteStore(folder, OWN, signer)
            store.start()
            facts = rng.randbytes(20)
            store.keep([Content("facts", f"sha256:{hashlib.sha256(facts).hexdigest()}", facts)])
            store.note(
                json.dumps({"event": "table", "workload": "deployment/shop/cart-0", "run": run}).encode()
            )
            for chain in chains:
                names = {"namespace": "shop", "pod": chain.writer.pod, "workload": chain.writer.workload}
                records = [denial(rng.randrange(10**6), **names) for _ in range(rng.randint(1, 6))]
                store.append(chain.writer, chain.name, chain.add(*records)).result(WAIT_SECONDS)
            store.close()
            if not run:
                shutil.copytree(folder, before)
        yield folder, before


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "audit.sqlite")) as connection, connection:
        connection.row_factory = sqlite3.Row
        yield connection


def one(connection: sqlite3.Connection, rng: random.Random, table: str) -> sqlite3.Row:
    return rng.choice(connection.execute(f"SELECT * FROM {table}").fetchall())


def flip(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def edit_a_byte(folder: Path, before: Path, rng: random.Random) -> None:
    with database(folder) as connection:
        row = one(connection, rng, "records")
        values = (flip(rng, row["json"]), row["place"])
        connection.execute("UPDATE records SET json = ? WHERE place = ?", values)


def edit_a_column(folder: Path, before: Path, rng: random.Random) -> None:
    table, key, columns = rng.choice(
        [
            ("records", "place", ("sha256", "sequence", "chain", *COLUMNS)),
            ("chains", "number", ("identity", "pod_uid", "namespace", "pod", "workload", "head_sequence")),
            ("chains", "number", ("head_sha256", "removed_sequence", "removed_sha256", "chain")),
            ("contents", "version", ("content", "version")),
        ]
    )
    with database(folder) as connection:
        row, column = one(connection, rng, table), rng.choice(columns)
        value = {int: 77, bytes: b"\x00" * 16, str: "edited"}.get(type(row[column]), "edited")
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, row[key]))


def delete_a_record(folder: Path, before: Path, rng: random.Random) -> None:
    with database(folder) as connection:
        connection.execute("DELETE FROM records WHERE place = ?", (one(connection, rng, "records")["place"],))


def swap_two(folder: Path, before: Path, rng: random.Random) -> None:
    """Everything of two records but their places in the chain; a lone one is edited."""
    with database(folder) as connection:
        first = one(connection, rng, "records")
        second = connection.execute(
            "SELECT * FROM records WHERE chain = ? AND place <> ?", (first["chain"], first["place"])
        ).fetchone()
        for to, of in ((first, second or first), (second or first, first)):
            content = of["json"] if second is not None else flip(rng, of["json"])
            connection.execute("UPDATE records SET json = ? WHERE place = ?", (content, to["place"]))


def rewrite(folder: Path, before: Path, rng: random.Random) -> None:
    """The work of somebody who knows the format: one record is another, and all hashes after it fit."""
    with database(folder) as connection:
        victim = one(connection, rng, "records")
        chain = connection.execute("SELECT * FROM chains WHERE number = ?", (victim["chain"],)).fetchone()
        rows = connection.execute(
            "SELECT * FROM records WHERE chain = ? ORDER BY sequence", (chain["number"],)
        ).fetchall()
        previous = bytes(32)
        for row in rows:
            content = row["json"]
            if row["place"] == victim["place"]:
                content = content.rstrip(b"}") + b', "x": 1}'
            text = b"policyd.v1.AuditRecord\0" + chain["chain"] + row["sequence"].to_bytes(8, "big")
            previous = hashlib.sha256(text + previous + content).digest()
            values = (content, previous, row["place"])
            connection.execute("UPDATE records SET json = ?, sha256 = ? WHERE place = ?", values)
        connection.execute("UPDATE chains SET head_sha256 = ? WHERE number = ?", (previous, chain["number"]))


def cut_the_tail(folder: Path, before: Path, rng: random.Random) -> None:
    with database(folder) as connection:
        chain = one(connection, rng, "chains")
        at = rng.randrange(chain["head_sequence"])
        connection.execute("DELETE FROM records WHERE chain = ? AND sequence > ?", (chain["number"], at))
        row = connection.execute(
            "SELECT sha256 FROM records WHERE chain = ? AND sequence = ?", (chain["number"], at)
        ).fetchone()
        connection.execute(
            "UPDATE chains SET head_sequence = ?, head_sha256 = ? WHERE number = ?",
            (at, bytes(32) if row is None else row["sha256"], chain["number"]),
        )


def cut_the_beginning(folder: Path, before: Path, rng: random.Random) -> None:
    """As retention would, which nobody signed for."""
    with database(folder) as connection:
        chain = one(connection, rng, "chains")
        at = rng.randint(1, chain["head_sequence"])
        (sha256,) = connection.execute(
            "SELECT sha256 FROM records WHERE chain = ? AND sequence = ?", (chain["number"], at)
        ).fetchone()
        connection.execute("DELETE FROM records WHERE chain = ? AND sequence <= ?", (chain["number"], at))
        connection.execute(
            "UPDATE chains SET removed_sequence = ?, removed_sha256 = ? WHERE number = ?",
            (at, sha256, chain["number"]),
        )


def drop_a_chain(folder: Path, before: Path, rng: random.Random) -> None:
    with database(folder) as connection:
        number = one(connection, rng, "chains")["number"]
        connection.execute("DELETE FROM records WHERE chain = ?", (number,))
        connection.execute("DELETE FROM chains WHERE number = ?", (number,))


def roll_back(folder: Path, before: Path, rng: random.Random) -> None:
    name = rng.choice(["audit.sqlite", "heads.jsonl"])
    shutil.copy(before / name, folder / name)


def lose_a_file(folder: Path, before: Path, rng: random.Random) -> None:
    (folder / rng.choice(["audit.sqlite", "heads.jsonl"])).unlink()


def edit_the_heads(folder: Path, before: Path, rng: random.Random) -> None:
    file = folder / "heads.jsonl"
    file.write_bytes(flip(rng, file.read_bytes()))


def shorten_the_heads(folder: Path, before: Path, rng: random.Random) -> None:
    file = folder / "heads.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


TAMPERINGS: list[Callable[[Path, Path, random.Random], None]] = [
    edit_a_byte,
    edit_a_column,
    delete_a_record,
    swap_two,
    rewrite,
    cut_the_tail,
    cut_the_beginning,
    drop_a_chain,
    roll_back,
    lose_a_file,
    edit_the_heads,
    shorten_the_heads,
]


@pytest.mark.promise("P-12")
@example(seed=205, tampering=edit_the_heads)  # the first line cut short, and so taken for a crash
@given(seed=st.integers(0, 2**32 - 1), tampering=st.sampled_from(TAMPERINGS))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_a_history_is_seen(signer: RealSigner, seed: int, tampering: Any) -> None:
    rng = random.Random(seed)
    with history(rng, signer) as (folder, before):
        assert verify(folder, engine.version).tampered == []
        tampering(folder, before, rng)
        assert verify(folder, engine.version).tampered, tampering.__name__


def dump(folder: Path) -> list[str]:
    with database(folder) as connection:
        return list(connection.iterdump())


@pytest.mark.promise("P-12")
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bits_of_the_file_are_seen_or_change_nothing(signer: RealSigner, seed: int) -> None:
    """Bits of free pages, of places and of times of last use mean nothing that is vouched for."""
    rng = random.Random(seed)
    with history(rng, signer) as (folder, _):
        file = folder / "audit.sqlite"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode = DELETE")
        with database(folder) as connection:
            said = [tuple(row) for row in connection.execute(VOUCHED)]
        for _ in range(5):
            content = file.read_bytes()
            file.write_bytes(flip(rng, content))
            if not verify(folder, engine.version).tampered:
                with database(folder) as connection:
                    assert [tuple(row) for row in connection.execute(VOUCHED)] == said
            file.write_bytes(content)


VOUCHED = (
    "SELECT c.chain, c.identity, c.pod_uid, r.sequence, r.json, r.reason, r.peer "
    "FROM records r JOIN chains c ON c.number = r.chain ORDER BY c.chain, r.sequence"
)

VALUES: list[Any] = [
    *(None, "", "x", "\ud800", "\u2028", 1, -1, 2**70, 1.0, 1.5, True, [], {}, ["a"], [1], "x" * 600),
    *({"ip": "x"}, {"identity": "", "ip": "y"}, {"reason": "r", "authorizations": ["a", "b"]}, {"reason": 3}),
    *({"authorizations": None}, "2026-01-01T00:00:00Z", "2026-01-01", "9999-12-31T23:59:59+23:59"),
]
FIELDS = (
    *("event", "time", "direction", "namespace", "pod", "workload", "service", "port", "id", "reason"),
    *("authorization", "route", "table", "facts", "count", "peer", "request", "audit", "other"),
)
BY_HAND = [
    b'{"event":"denial","x":1e400}',
    b'{"event":"denial","x":"\xff"}',
    b'{"event":"denial","x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"event":"denial","event":"lost"}',
    b'\xef\xbb\xbf{"event":"denial"}',
    b'{"event":"denial","port":' + b"9" * 5000 + b"}",
    b'{"\\u0065vent":"denial","x":NaN}',
]


def odd_record(rng: random.Random) -> bytes:
    line = {name: rng.choice(VALUES) for name in rng.sample(FIELDS, rng.randint(0, 6))}
    if rng.random() < 0.6:
        line["event"] = rng.choice(["denial", "would_deny", "lost"])
    content = bytearray(json.dumps(line, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass"))
    for _ in range(rng.choice([0, 0, 1, 3])):
        content[rng.randrange(len(content))] = rng.choice(b'{}[]",:\\0eE+-.\xff\x00\x1f\nntu')
    return bytes(content)


def test_writer_and_verifier_read_any_record_alike() -> None:
    """Else a proxy could make an honest store look changed."""
    rng = random.Random(5)
    for content in (*BY_HAND, *(odd_record(rng) for _ in range(30_000))):
        facets = read_facets(content)
        assert {name: getattr(facets, name) for name in COLUMNS} == columns_of(content), content[:200]
