"""SQLite in a folder: one process writes, any may read."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

from policyd.audit import schema
from policyd.audit.database import Connection
from policyd.audit.heads import HeadsFile, Signer
from policyd.errors import StoreUnavailable

QUESTION_SECONDS = 20.0
"""How long a question may take; it is given up then. Of a full store the slowest take some seconds."""
_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the clock: some milliseconds."""


class SqliteDatabase:
    """`audit.sqlite` in a folder, and beside it the heads."""

    faults: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
    account_pattern = "peer GLOB 'spiffe://*/ns/' || ? || '/sa/' || ?"

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder

    def writer(self) -> Connection:
        return schema.open_writer(schema.prepare(self._folder))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        path = self._folder / schema.DATABASE
        try:
            with closing(schema.open_reader(path)) as connection:
                until = time.monotonic() + QUESTION_SECONDS
                connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
                yield connection
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path}: {error}") from error

    def close(self) -> None:
        """Nothing is kept open."""

    def begin(self, connection: Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")

    def signing(self, connection: Connection) -> AbstractContextManager[None]:
        del connection  # there is one writer
        return nullcontext()

    def heads(self, signer: Signer) -> _FileHeads:
        return _FileHeads(HeadsFile(self._folder / schema.HEADS, signer))

    def used_bytes(self, connection: Connection) -> int:
        """Return the size of what is kept, free pages aside."""
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def tidy(self, connection: Connection) -> None:
        connection.execute("PRAGMA incremental_vacuum").fetchall()


class _FileHeads:
    """Heads in a file beside the database."""

    def __init__(self, file: HeadsFile) -> None:
        self._file = file

    @property
    def can_sign(self) -> bool:
        return self._file.can_sign

    def is_long(self, connection: Connection) -> bool:
        del connection
        return self._file.is_long

    def write(self, connection: Connection, content: Mapping[str, object], anew: bool) -> str:
        del connection
        return self._file.write(content, anew)
