"""A store in PostgreSQL as a verifier reads it: one snapshot, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from policyd.audit.postgres import translated

_AT_ONCE = 1000
"""Rows that are fetched at a time."""


class PostgresTrail:
    """A database by the file that says how it is reached. `reading` raises OSError where that fails."""

    name = "postgresql"

    def __init__(self, connection: Path) -> None:
        self._file = connection

    @contextmanager
    def reading(self) -> Iterator[_Snapshot]:
        try:
            with psycopg.connect(self._file.read_text().strip()) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                yield _Snapshot(connection)
        except psycopg.Error as error:
            raise OSError(" ".join(str(error).split())) from error

    def heads(self, connection: Any) -> bytes:
        rows = connection.execute("SELECT line FROM heads ORDER BY number")
        return b"".join(row["line"] + b"\n" for row in rows)

    def damage(self, connection: Any) -> str | None:
        del connection  # it has checksums of its own
        return None

    def text(self, value: Any) -> Any:
        """PostgreSQL holds no NUL: policyd writes another character in its place."""
        return value.replace("\0", "\ufffd") if isinstance(value, str) else value


class _Snapshot:
    """Answers statements with `?`; rows are read as they are asked for."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._count = 0

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Rows:
        """Return the rows of a statement."""
        self._count += 1
        return _Rows(self._rows(f"verify_{self._count}", sql, values))

    def _rows(self, name: str, sql: str, values: Sequence[Any]) -> Iterator[_Row]:
        text: Any = translated(sql) if values else sql
        with self._connection.cursor(name, row_factory=_by_name) as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(text, list(values) or None)
            yield from cursor


class _Rows:
    """Rows, once."""

    def __init__(self, rows: Iterator[_Row]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[_Row]:
        return self._rows

    def fetchall(self) -> list[_Row]:
        return list(self._rows)

    def fetchone(self) -> _Row | None:
        return next(iter(self.fetchall()), None)


class _Row(tuple[Any, ...]):
    """A row with its columns by name, too."""

    names: tuple[str, ...]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)


def _by_name(cursor: Any) -> Callable[[Sequence[Any]], _Row]:
    names = tuple(column.name for column in cursor.description or ())

    def made(values: Sequence[Any]) -> _Row:
        row = _Row(values)
        row.names = names
        return row

    return made
