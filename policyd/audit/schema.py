"""The database file: its tables, their version, and how it is opened (docs/reference/audit-store.md)."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from pathlib import Path

from policyd.audit.record import COLUMNS
from policyd.errors import StoreUnavailable

DATABASE = "audit.sqlite"
HEADS = "heads.jsonl"
SCHEMA_VERSION = 1
BUSY_MILLIS = 5000
_CACHE_KIB = 16 * 1024
_TYPES = {"time_millis": "INTEGER", "port": "INTEGER", "count": "INTEGER"}
_FACETS = ", ".join(f"{name} {_TYPES.get(name, 'TEXT')}" for name in COLUMNS)
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE chains (
  number INTEGER PRIMARY KEY, chain BLOB NOT NULL UNIQUE,
  identity TEXT NOT NULL, pod_uid TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
  workload TEXT NOT NULL, head_sequence INTEGER NOT NULL, head_sha256 BLOB NOT NULL,
  removed_sequence INTEGER NOT NULL, removed_sha256 BLOB NOT NULL, refused TEXT);
CREATE TABLE records (
  place INTEGER PRIMARY KEY AUTOINCREMENT, chain INTEGER NOT NULL REFERENCES chains (number),
  sequence INTEGER NOT NULL, sha256 BLOB NOT NULL, json BLOB NOT NULL, {_FACETS},
  UNIQUE (chain, sequence));
CREATE TABLE contents (
  version TEXT PRIMARY KEY, kind TEXT NOT NULL, content BLOB NOT NULL, used_millis INTEGER NOT NULL);
CREATE TABLE rollbacks (
  chain BLOB NOT NULL, sequence INTEGER NOT NULL, sha256 BLOB NOT NULL, identity TEXT NOT NULL,
  known INTEGER NOT NULL, at_millis INTEGER NOT NULL, PRIMARY KEY (chain, sequence, sha256)) WITHOUT ROWID;
CREATE INDEX by_id ON records (id) WHERE id IS NOT NULL;
CREATE INDEX by_time ON records (time_millis);
CREATE INDEX by_namespace ON records (namespace, time_millis);
CREATE INDEX by_workload ON records (workload, time_millis);
CREATE INDEX by_reason ON records (reason, time_millis);
CREATE INDEX by_peer ON records (peer, time_millis);
CREATE INDEX by_event ON records (event, time_millis);
"""


def prepare(folder: Path) -> Path:
    """Make the folder (0700) where it isn't there; return the database's path. Raises StoreUnavailable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StoreUnavailable(f"{folder}: expected a folder of policyd's own with mode 0700")
        for name in (DATABASE, HEADS):
            os.close(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"{error.filename or folder}: {error.strerror}") from error
    return folder / DATABASE


def open_writer(path: Path) -> sqlite3.Connection:
    """Open for the one writer, making tables where there are none. Raises sqlite3.Error, StoreUnavailable.

    WAL with a sync for each commit: what is acknowledged survives the machine's end, too.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_MILLIS / 1000)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        _make(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    if version:
        raise StoreUnavailable(f"{path}: schema {version}, this policyd reads {SCHEMA_VERSION}")
    name = secrets.token_hex(16)
    connection.executescript(
        f"BEGIN IMMEDIATE;{_SCHEMA}INSERT INTO meta VALUES ('store', '{name}');"  # noqa: S608 — our own words
        f"PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
    )


def open_reader(path: Path) -> sqlite3.Connection:
    """Open for questions. Raises StoreUnavailable."""
    try:
        connection = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, timeout=BUSY_MILLIS / 1000)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    if version != SCHEMA_VERSION:
        connection.close()
        raise StoreUnavailable(f"{path}: schema {version}, this program reads {SCHEMA_VERSION}")
    connection.row_factory = sqlite3.Row
    return connection


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
