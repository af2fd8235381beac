"""What the writer does inside a transaction: greet a chain, append to it, keep bytes.

A refusal is a result, not an exception: that a chain was refused, or the store rolled back, is kept, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from policyd.audit.chain import CHAIN_BROKEN, ROLLED_BACK, WRONG_WRITER, Head, Link, extended
from policyd.audit.database import Connection
from policyd.audit.record import COLUMNS, QUOTED, Facets, Writer, read_facets, refuse_foreign
from policyd.audit.store import Content
from policyd.errors import ChainRefused

MOST_ROLLBACKS = 10_000
"""Told roll-backs that are kept; by then nobody needs another."""
_INSERT = (
    f"INSERT INTO records (chain, sequence, sha256, json, {', '.join(QUOTED.values())}) "  # noqa: S608 — our own words
    f"VALUES ({', '.join('?' * (4 + len(COLUMNS)))})"
)
_CHAIN = """SELECT number, identity, pod_uid, head_sequence, head_sha256, removed_sequence, removed_sha256,
  refused FROM chains WHERE chain = ?"""


@dataclass(frozen=True, slots=True)
class _Known:
    """A chain as the store has it."""

    number: int
    identity: str
    pod_uid: str
    head: Head
    removed: Head
    refused: str | None


@dataclass(frozen=True, slots=True)
class Appended:
    """What was added: up to where the chain is kept, and what its records were."""

    sequence: int
    added: tuple[Facets, ...] = ()


def greet(connection: Connection, writer: Writer, chain: bytes, acknowledged: Head) -> int | ChainRefused:
    """Take up a chain. Where a writer was acknowledged what isn't here, the store was rolled back."""
    known = _known(connection, chain)
    if known is None:
        if acknowledged.sequence:
            return _rolled_back(connection, writer, chain, acknowledged, 0)
        return 0
    refusal = _refusal(known, writer)
    if refusal is not None:
        return refusal
    if acknowledged.sequence and not _has(connection, known, acknowledged):
        return _rolled_back(connection, writer, chain, acknowledged, known.head.sequence)
    return known.head.sequence


def append(
    connection: Connection, writer: Writer, chain: bytes, links: Sequence[Link], own: bool = False
) -> Appended | ChainRefused:
    """Add what is new of the records; `own`: policyd's, which may say everything."""
    known = _known(connection, chain) or _begun(connection, writer, chain)
    refusal = _refusal(known, writer)
    if refusal is not None:
        return refusal
    try:
        _refuse_other(connection, known, links)
        new = [link for link in links if link.sequence > known.head.sequence]
        heads = extended(chain, known.head, new)
        facets = [read_facets(link.json) for link in new]
        for each in () if own else facets:
            refuse_foreign(each, writer)
    except ChainRefused as error:
        connection.execute("UPDATE chains SET refused = ? WHERE number = ?", (error.code, known.number))
        return error
    _insert(connection, known.number, new, heads, facets)
    return Appended(heads[-1].sequence if heads else known.head.sequence, tuple(facets))


def _insert(
    connection: Connection,
    number: int,
    links: Sequence[Link],
    heads: Sequence[Head],
    facets: Sequence[Facets],
) -> None:
    if not heads:
        return
    rows = (
        (number, link.sequence, head.sha256, link.json, *(getattr(each, name) for name in COLUMNS))
        for link, head, each in zip(links, heads, facets, strict=True)
    )
    connection.executemany(_INSERT, rows)
    connection.execute(
        "UPDATE chains SET head_sequence = ?, head_sha256 = ? WHERE number = ?",
        (heads[-1].sequence, heads[-1].sha256, number),
    )
    touch(connection, {version for each in facets for version in (each.table_version, each.facts_version)})


def keep(connection: Connection, contents: Iterable[Content]) -> None:
    """Keep bytes by their hash."""
    now = _now()
    connection.executemany(
        "INSERT INTO contents (version, kind, content, used_millis) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (version) DO UPDATE SET used_millis = excluded.used_millis",
        [(each.version, each.kind, each.content, now) for each in contents],
    )


def touch(connection: Connection, versions: Iterable[str | None]) -> None:
    """Say that bytes are still of use."""
    now = _now()
    rows = [(now, version) for version in versions if version is not None]
    connection.executemany("UPDATE contents SET used_millis = ? WHERE version = ?", rows)


def _known(connection: Connection, chain: bytes) -> _Known | None:
    row = connection.execute(_CHAIN, (chain,)).fetchone()
    if row is None:
        return None
    return _Known(row[0], row[1], row[2], Head(row[3], row[4]), Head(row[5], row[6]), row[7])


def _begun(connection: Connection, writer: Writer, chain: bytes) -> _Known:
    who = (writer.identity, writer.pod_uid, writer.namespace, writer.pod, writer.workload)
    begin = Head()
    done = connection.execute(
        "INSERT INTO chains (chain, identity, pod_uid, namespace, pod, workload, head_sequence, head_sha256, "
        "removed_sequence, removed_sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        (chain, *who, begin.sequence, begin.sha256, begin.sequence, begin.sha256),
    ).fetchone()
    return _Known(done[0], writer.identity, writer.pod_uid, begin, begin, None)


def _refusal(known: _Known, writer: Writer) -> ChainRefused | None:
    if (known.identity, known.pod_uid) != (writer.identity, writer.pod_uid):
        return ChainRefused(WRONG_WRITER, "the chain is another writer's")
    if known.refused is not None:
        return ChainRefused(known.refused, "the chain was refused before; begin another")
    return None


def _refuse_other(connection: Connection, known: _Known, links: Sequence[Link]) -> None:
    """Raise ChainRefused where a sequence that is kept comes again with other bytes."""
    for link in links:
        if known.removed.sequence < link.sequence <= known.head.sequence:
            row = connection.execute(
                "SELECT json FROM records WHERE chain = ? AND sequence = ?", (known.number, link.sequence)
            ).fetchone()
            if row is None or row[0] != link.json:
                raise ChainRefused(CHAIN_BROKEN, f"{link.sequence} is kept already, and was another record")


def _has(connection: Connection, known: _Known, said: Head) -> bool:
    """Whether the store has the record, or had it: what retention removed can't be compared."""
    if said.sequence <= known.removed.sequence:
        return said.sequence < known.removed.sequence or said.sha256 == known.removed.sha256
    row = connection.execute(
        "SELECT sha256 FROM records WHERE chain = ? AND sequence = ?", (known.number, said.sequence)
    ).fetchone()
    return row is not None and row[0] == said.sha256


def _rolled_back(
    connection: Connection, writer: Writer, chain: bytes, said: Head, known: int
) -> ChainRefused:
    (kept,) = connection.execute("SELECT count(*) FROM rollbacks").fetchone()
    if kept < MOST_ROLLBACKS:
        connection.execute(
            "INSERT INTO rollbacks (chain, sequence, sha256, identity, known, at_millis) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (chain, said.sequence, said.sha256, writer.identity, known, _now()),
        )
    connection.execute("UPDATE chains SET refused = ? WHERE chain = ?", (ROLLED_BACK, chain))
    return ChainRefused(
        ROLLED_BACK, f"{said.sequence} was acknowledged, {known} is kept; begin another chain"
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
