"""The store in a folder of its own: an SQLite database, and beside it the signed heads."""

from __future__ import annotations

from pathlib import Path

from policyd.audit.heads import Signer
from policyd.audit.keeping import DatabaseStore
from policyd.audit.lite import SqliteDatabase
from policyd.audit.record import Writer
from policyd.audit.retention import Bounds


class SqliteStore(DatabaseStore):
    """One process writes, any may read."""

    def __init__(self, folder: Path, own: Writer, signer: Signer, bounds: Bounds = Bounds()) -> None:  # noqa: B008 — frozen
        """`own` is who policyd's own records are from."""
        super().__init__(SqliteDatabase(folder), own, signer, bounds)
