"""PostgreSQL: several policyd write, and any of them answers for all."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row, tuple_row

from policyd.audit.database import Connection
from policyd.audit.heads import FIRST, MOST_BYTES, Signer, signed_line
from policyd.audit.postgres_schema import SCHEMA, SCHEMA_VERSION
from policyd.errors import StoreUnavailable

CONNECT_SECONDS: Final = 5
STATEMENT_MILLIS: Final = 20_000
"""How long a question, or a step of writing, may take."""
LOCK_MILLIS: Final = 10_000
"""How long is waited for another policyd's transaction."""
IDLE_MILLIS: Final = 30_000
"""A transaction whose policyd says nothing any more is taken back after this: others wait for it."""
MOST_IDLE: Final = 4
"""Connections for questions that are kept open."""
MOST_CONNECTION_BYTES: Final = 8 * 1024
_LOCK: Final = int.from_bytes(hashlib.sha256(b"policyd.v1.AuditStore").digest()[:8], "big", signed=True)
"""The advisory lock that every writing transaction holds."""


class PostgresDatabase:
    """One database. Places follow one another in the order of commits, because writers take turns."""

    faults: tuple[type[Exception], ...] = (psycopg.Error, OSError)
    account_pattern = "peer LIKE 'spiffe://%/ns/' || ? || '/sa/' || ?"

    def __init__(self, connection: Path) -> None:
        """Take a file with a connection string or URI, which is read again with each connection."""
        self._file = connection
        self.where = f"postgresql ({connection})"
        self._idle: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()

    def writer(self) -> Connection:
        opened = _Statements(self._open(tuple_row))
        try:
            _make(opened)
        except BaseException:
            opened.close()
            raise
        return opened

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        try:
            connection = self._borrowed()
        except psycopg.Error as error:
            raise StoreUnavailable(f"{self.where}: {_line(error)}") from error
        try:
            yield _Statements(connection)
        except psycopg.Error as error:
            connection.close()
            raise StoreUnavailable(f"{self.where}: {_line(error)}") from error
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)

    def begin(self, connection: Connection) -> None:
        connection.execute("BEGIN")
        connection.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))

    @contextmanager
    def signing(self, connection: Connection) -> Iterator[None]:
        self.begin(connection)
        yield  # where it fails the connection is closed, which takes it back
        connection.execute("COMMIT")

    def heads(self, signer: Signer) -> TableHeads:
        return TableHeads(signer)

    def used_bytes(self, connection: Connection) -> int:
        """Return the size of records and bytes; what is removed isn't given back before a vacuum."""
        total = 0
        for sql in (
            "SELECT COALESCE(SUM(octet_length(json) + 256), 0) FROM records",
            "SELECT COALESCE(SUM(octet_length(content)), 0) FROM contents",
        ):
            total += int(connection.execute(sql).fetchone()[0])
        return total

    def tidy(self, connection: Connection) -> None:
        """Leave that to PostgreSQL, which does it by itself."""

    def close(self) -> None:
        """Close what is kept open for questions."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _borrowed(self) -> psycopg.Connection[Any]:
        with self._lock:
            while self._idle:
                found = self._idle.pop()
                if not found.closed and not found.broken:
                    return found
        return self._open(dict_row, read_only=True)

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        with self._lock:
            if len(self._idle) < MOST_IDLE and not connection.closed:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self, row: Any, *, read_only: bool = False) -> psycopg.Connection[Any]:
        """Connect. Raises psycopg.Error, StoreUnavailable."""
        given = {
            "connect_timeout": str(CONNECT_SECONDS),
            "application_name": "policyd",
            "options": f"-c statement_timeout={STATEMENT_MILLIS} -c lock_timeout={LOCK_MILLIS} "
            f"-c idle_in_transaction_session_timeout={IDLE_MILLIS} -c synchronous_commit=on"
            f"{' -c default_transaction_read_only=on' if read_only else ''}",
        }
        info = make_conninfo(_read(self._file), **given)
        return psycopg.connect(info, autocommit=True, row_factory=row)


class TableHeads:
    """Heads in the database itself: every policyd continues the others' lines."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def can_sign(self) -> bool:
        return bool(self._signer.chain)

    def is_long(self, connection: Connection) -> bool:
        sql = "SELECT COALESCE(SUM(octet_length(line)), 0) FROM heads"
        return int(connection.execute(sql).fetchone()[0]) > MOST_BYTES

    def write(self, connection: Connection, content: Mapping[str, object], anew: bool) -> str:
        last = connection.execute("SELECT line FROM heads ORDER BY number DESC LIMIT 1").fetchone()
        previous = FIRST if last is None else hashlib.sha256(last[0]).hexdigest()
        line, _ = signed_line(self._signer, {**content, "previous": previous}, None)
        row = connection.execute("INSERT INTO heads (line) VALUES (?) RETURNING number", (line,)).fetchone()
        if anew:
            connection.execute("DELETE FROM heads WHERE number < ?", (row[0],))
        return hashlib.sha256(line).hexdigest()


class _Statements:
    """A connection that takes statements with `?`, and texts without the NULs that PostgreSQL can't hold."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        if not values:
            return self._connection.execute(sql)
        return self._connection.execute(translated(sql), [_storable(each) for each in values])

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Any:
        cursor = self._connection.cursor()
        cursor.executemany(translated(sql), [[_storable(each) for each in row] for row in rows])
        return cursor

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._connection.close()


def translated(sql: str) -> Any:
    """Return a statement with values for `?` as psycopg takes it."""
    return sql.replace("%", "%%").replace("?", "%s")


def _storable(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _make(connection: Connection) -> None:
    """Make the tables where there are none; of several policyd one does."""
    connection.execute("BEGIN")
    connection.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
    there = connection.execute("SELECT to_regclass('meta') IS NOT NULL").fetchone()[0]
    if there:
        row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if row is None or row[0] != SCHEMA_VERSION:
            found = "none of ours" if row is None else row[0]
            raise StoreUnavailable(f"the database's schema is {found}, this policyd reads {SCHEMA_VERSION}")
    else:
        connection.execute(SCHEMA)
        for pair in (("schema", SCHEMA_VERSION), ("store", secrets.token_hex(16))):
            connection.execute("INSERT INTO meta (name, value) VALUES (?, ?)", pair)
    connection.execute("COMMIT")


def _read(file: Path) -> str:
    """Return the connection string. Raises StoreUnavailable; it is a secret, and in no message."""
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CONNECTION_BYTES).strip()
        conninfo_to_dict(text)
    except OSError as error:
        raise StoreUnavailable(f"{file}: {error.strerror}") from error
    except (UnicodeDecodeError, psycopg.Error) as error:
        raise StoreUnavailable(f"{file}: expected a connection string of PostgreSQL") from error
    if not text:
        raise StoreUnavailable(f"{file}: empty; expected a connection string of PostgreSQL")
    return text


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
