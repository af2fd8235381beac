"""The tables in PostgreSQL: those of SQLite, and one of heads (docs/reference/audit-store.md)."""

from __future__ import annotations

from typing import Final

from policyd.audit.record import QUOTED

SCHEMA_VERSION: Final = "1"
_TYPES = {"time_millis": "BIGINT", "port": "BIGINT", "count": "BIGINT"}
_FACETS = ", ".join(f"{quoted} {_TYPES.get(name, 'TEXT')}" for name, quoted in QUOTED.items())
SCHEMA: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE chains (
  number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, chain BYTEA NOT NULL UNIQUE,
  identity TEXT NOT NULL, pod_uid TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
  workload TEXT NOT NULL, head_sequence BIGINT NOT NULL, head_sha256 BYTEA NOT NULL,
  removed_sequence BIGINT NOT NULL, removed_sha256 BYTEA NOT NULL, refused TEXT);
CREATE TABLE records (
  place BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, chain BIGINT NOT NULL REFERENCES chains (number),
  sequence BIGINT NOT NULL, sha256 BYTEA NOT NULL, json BYTEA NOT NULL, {_FACETS},
  UNIQUE (chain, sequence));
CREATE TABLE contents (
  version TEXT PRIMARY KEY, kind TEXT NOT NULL, content BYTEA NOT NULL, used_millis BIGINT NOT NULL);
CREATE TABLE rollbacks (
  chain BYTEA NOT NULL, sequence BIGINT NOT NULL, sha256 BYTEA NOT NULL, identity TEXT NOT NULL,
  known BIGINT NOT NULL, at_millis BIGINT NOT NULL, PRIMARY KEY (chain, sequence, sha256));
CREATE TABLE heads (number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, line BYTEA NOT NULL);
CREATE INDEX by_id ON records (id COLLATE "C") WHERE id IS NOT NULL;
CREATE INDEX by_time ON records (time_millis);
CREATE INDEX by_namespace ON records (namespace, time_millis);
CREATE INDEX by_workload ON records (workload, time_millis);
CREATE INDEX by_reason ON records (reason, time_millis);
CREATE INDEX by_peer ON records (peer, time_millis);
CREATE INDEX by_event ON records (event, time_millis);
"""
