"""A store in a folder, and writers with chains of their own."""

from __future__ import annotations

import hashlib
import inspect
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from identity.material import create_root, load_material
from identity.profile import LeafPlan, leaf_builder, new_serial
from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.audit.chain import Head, Link
from policyd.audit.keeping import DatabaseStore
from policyd.audit.postgres import PostgresDatabase
from policyd.audit.record import Writer
from policyd.audit.retention import Bounds
from policyd.audit.sqlite import SqliteStore
from policyd.audit.store import Store
from tests.postgres.server import PostgresServer, programs_or_skip

WAIT_SECONDS = 30
NOW = 1_795_262_400_000
OWN = Writer("spiffe://test/ns/policyd/sa/policyd", "", "policyd", "policyd", "")


class RealSigner:
    """policyd's SVID of a root of the test."""

    def __init__(self, folder: Path) -> None:
        domain = TrustDomain("test")
        create_root(folder, domain)
        self.roots = folder / "root.crt"
        now = datetime.now(UTC).replace(microsecond=0)
        issuer = load_material(folder, domain, now).signer
        self._key = ec.generate_private_key(ec.SECP256R1())
        identity = SpiffeId.of_service_account(domain, "policyd", "policyd")
        end = datetime.fromtimestamp(now.timestamp() + 3600, UTC)
        begin = datetime.fromtimestamp(now.timestamp() - 60, UTC)
        plan = LeafPlan(identity, None, self._key.public_key(), new_serial(), begin, end)
        self.chain = (issuer.sign(leaf_builder(plan, issuer.certificate)).public_bytes(Encoding.DER),)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(SHA256()))


def instant(millis: int) -> str:
    return (
        datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def identifier(number: int, millis: int | None = None) -> str:
    """An id as proxies make them."""
    millis = NOW + number if millis is None else millis
    text = f"{millis:012x}7{number % 4096:03x}8{number:015x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def denial(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A record as the proxy of shop/cart-0 writes it."""
    millis = fields.pop("millis", NOW + number)
    return {
        "time": instant(millis),
        "event": "denial",
        "direction": "inbound",
        "workload": "deployment/shop/cart",
        "namespace": "shop",
        "pod": "cart-0",
        "port": 8080,
        "service": None,
        "id": identifier(number, millis),
        "verdict": "deny",
        "reason": "no_matching_rule",
        "status": 403,
        "grpcStatus": None,
        "server": "server.policyd.dev/shop/cart",
        "route": None,
        "authorization": None,
        "origin": None,
        "table": "sha256:" + "ab" * 32,
        "facts": "sha256:" + "cd" * 32,
        "audit": None,
        "peer": {"ip": "10.0.0.7", "identity": "spiffe://test/ns/shop/sa/web", "podUID": None},
        "request": {
            "version": "1.1",
            "method": "GET",
            "host": "cart",
            "path": "/a",
            "query": [],
            "headers": [],
        },
        "gate": None,
        "detail": None,
    } | fields


@dataclass
class Chain:
    """What one writer has in its spool. The hashes are worked out here, apart from the product's code."""

    writer: Writer = field(
        default_factory=lambda: Writer(
            "spiffe://test/ns/shop/sa/cart", "uid-1", "shop", "cart-0", "deployment/shop/cart"
        )
    )
    name: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    links: list[Link] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)

    def add(self, *records: dict[str, Any] | bytes) -> list[Link]:
        added = []
        for record in records:
            content = record if isinstance(record, bytes) else json.dumps(record).encode()
            previous = self.hashes[-1] if self.hashes else bytes(32)
            sequence = len(self.links) + 1
            text = b"policyd.v1.AuditRecord\0" + self.name + sequence.to_bytes(8, "big") + previous + content
            self.hashes.append(hashlib.sha256(text).digest())
            self.links.append(Link(sequence, previous, content))
            added.append(self.links[-1])
        return added

    def head(self, sequence: int | None = None) -> Head:
        at = len(self.links) if sequence is None else sequence
        return Head(at, self.hashes[at - 1]) if at else Head()


def deliver(store: Store, chain: Chain, *records: dict[str, Any] | bytes) -> int:
    return store.append(chain.writer, chain.name, chain.add(*records)).result(WAIT_SECONDS)


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> RealSigner:
    return RealSigner(tmp_path_factory.mktemp("root") / "root")


Opener = Callable[..., DatabaseStore]
BOTH = {"test_store", "test_service"}
"""Modules whose tests hold for either database; those that look at files are SQLite's alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let tests that open a store do so on either database."""
    asked = inspect.signature(metafunc.function).parameters
    module = metafunc.module.__name__.rpartition(".")[2]
    if "opened" in metafunc.fixturenames and module in BOTH and "tmp_path" not in asked:
        metafunc.parametrize("opened", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def opened(tmp_path: Path, signer: RealSigner, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens stores, and closes those that are still open."""
    open_now: list[DatabaseStore] = []
    connection = tmp_path / "connection"
    if getattr(request, "param", "sqlite") == "postgres":
        connection.write_text(request.getfixturevalue("postgres").database())

    def made(folder: Path | None, bounds: Bounds) -> DatabaseStore:
        if connection.exists():
            return DatabaseStore(PostgresDatabase(connection), OWN, signer, bounds)
        return SqliteStore(folder or tmp_path / "audit", OWN, signer, bounds)

    def make(folder: Path | None = None, bounds: Bounds | None = None) -> DatabaseStore:
        store = made(folder, bounds or Bounds())
        store.start()
        open_now.append(store)
        close = store.close

        def close_once() -> None:
            if store in open_now:
                open_now.remove(store)
                close()

        store.close = close_once  # type: ignore[method-assign]
        if connection.exists():
            until(lambda: store.standing.problem is None)  # tables are made by the first that writes
        return store

    yield make
    for store in open_now:
        store.close()


@pytest.fixture
def store(opened: Opener) -> DatabaseStore:
    return opened()


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, for tests that want a real one."""
    server = PostgresServer(programs_or_skip("POSTGRESQL"))
    try:
        server.start()
        yield server
    finally:
        server.remove()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it didn't come about"
        time.sleep(0.005)
