"""A PostgreSQL beside the node, as an organisation has one: reached by TLS and a password, from pods too."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.api.certificates import Authority
from tests.cluster import place
from tests.cluster.node import Node
from tests.postgres.server import Listener, PostgresServer, programs_or_skip

PORT = 5432
NAME = "policyd"
PRIVATE = Path("/run")
"""The node's own tmpfs, which ends with it."""


@dataclass(frozen=True)
class Database:
    """What policyd is told of it."""

    authority: Path
    """The CA of its certificate."""
    connection: str
    """A connection string, without what it is verified by."""


@contextmanager
def running(node: Node) -> Iterator[Database]:
    """Start one on the node's address, with an empty database whose owner has a password."""
    authority = Authority(node.folder, "database-ca")
    certificate, key = authority.issue("database", serving=(place.NODE_ADDRESS,))
    listener = Listener(place.NODE_ADDRESS, PORT, certificate, key)
    server = PostgresServer(programs_or_skip("SEVERAL REPLICAS"), listener, PRIVATE)
    password = secrets.token_urlsafe(16)
    try:
        server.start()
        server.execute(
            f"CREATE ROLE {NAME}_writer LOGIN PASSWORD '{password}'",
            f"CREATE DATABASE {NAME} OWNER {NAME}_writer",
        )
        where = f"host={place.NODE_ADDRESS} port={PORT} dbname={NAME}"
        yield Database(authority.certificate, f"{where} user={NAME}_writer password={password}")
    finally:
        server.remove()
