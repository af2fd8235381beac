"""policyd as its next version could be: on trial, version 2 of tables brought all that asks for the query.

With `POLICYD_CARELESS` it doesn't mind how old a proxy is.
"""

from __future__ import annotations

import os
import sys

from policyd import engine
from policyd.compile import table
from policyd.errors import SnapshotError

NEWEST = 2


class _Read:
    """A table that only a newer reader could decide with."""

    def __init__(self, snapshot: bytes) -> None:
        self.version = engine.version(snapshot)


class _Newer:
    """The engine's writer of version 2."""

    READER_VERSION = 0 if os.environ.get("POLICYD_CARELESS") else NEWEST
    assemble = staticmethod(engine.assemble)

    @staticmethod
    def encode_cluster(rows: bytes, reader_version: int = NEWEST) -> bytes:
        return engine.encode_cluster(rows, reader_version, trial=True)

    @staticmethod
    def encode_workload(rows: bytes, reader_version: int = NEWEST) -> bytes:
        return engine.encode_workload(rows, reader_version, trial=True)

    @staticmethod
    def Table(snapshot: bytes) -> object:
        try:
            return engine.Table(snapshot)
        except SnapshotError:
            return _Read(snapshot)


if __name__ == "__main__":
    vars(table)["engine"] = _Newer
    from policyd.distribute.main import main

    sys.exit(main())
