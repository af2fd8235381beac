"""What goes when: whole beginnings of chains, by age and by size, their last hash stays.

First it is planned, then said in the heads file, then done: a verifier never sees a beginning gone that
nobody signed for. Who writes most loses the oldest first, so that one namespace can't push out another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from policyd.audit.chain import Head
from policyd.audit.database import Connection

SHARE = 10
"""One part in so many of the biggest namespace's records goes at a time, until the size is right."""
CHUNK_ROWS = 5_000
"""Rows of one transaction: appending goes on in between."""
_CONTENT_GRACE_MILLIS = 3_600_000
"""Clocks of proxies differ; bytes that a kept record names stay."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long records are kept, and how big the database may be."""

    age: timedelta = timedelta(days=30)
    size_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class Removal:
    """The beginning of one chain: everything up to a record."""

    number: int
    chain: bytes
    upto: Head


def by_age(connection: Connection, cutoff: int) -> list[Removal]:
    """Plan to remove what is older than `cutoff` (ms), up to the first record of a chain that isn't."""
    found = []
    chains = connection.execute(
        "SELECT number, chain, head_sequence FROM chains WHERE head_sequence > removed_sequence"
    ).fetchall()
    for number, chain, head in chains:
        upto = _before_young(connection, number, head, cutoff)
        if upto is not None:
            found.append(Removal(number, chain, upto))
    return found


def _before_young(connection: Connection, number: int, head: int, cutoff: int) -> Head | None:
    """Return the last record before the first that isn't old; None where nothing goes."""
    young = connection.execute(
        "SELECT sequence FROM records WHERE chain = ? AND time_millis >= ? ORDER BY sequence LIMIT 1",
        (number, cutoff),
    ).fetchone()
    upto = head if young is None else young[0] - 1
    old = connection.execute(
        "SELECT 1 FROM records WHERE chain = ? AND sequence <= ? AND time_millis < ? LIMIT 1",
        (number, upto, cutoff),
    ).fetchone()
    return None if old is None else _head_at(connection, number, upto)


def by_size(connection: Connection) -> list[Removal]:
    """Plan to remove a share of the oldest records of the namespace that has most."""
    biggest = connection.execute(
        "SELECT namespace, SUM(head_sequence - removed_sequence) AS kept FROM chains "
        "GROUP BY namespace ORDER BY kept DESC LIMIT 1"
    ).fetchone()
    if biggest is None or not biggest[1]:
        return []
    within = "FROM records JOIN chains ON chains.number = records.chain WHERE chains.namespace = ?"
    last = connection.execute(
        f"SELECT place {within} ORDER BY place LIMIT 1 OFFSET ?", (biggest[0], int(biggest[1]) // SHARE)
    ).fetchone()
    if last is None:
        return []
    rows = connection.execute(
        f"SELECT number, chains.chain, MAX(sequence) {within} AND place <= ? GROUP BY number, chains.chain",
        (biggest[0], last[0]),
    ).fetchall()
    heads = ((number, chain, _head_at(connection, number, upto)) for number, chain, upto in rows)
    return [Removal(number, chain, head) for number, chain, head in heads if head is not None]


def _head_at(connection: Connection, number: int, sequence: int) -> Head | None:
    row = connection.execute(
        "SELECT sha256 FROM records WHERE chain = ? AND sequence = ?", (number, sequence)
    ).fetchone()
    return None if row is None else Head(sequence, row[0])


def remove(connection: Connection, removals: Iterable[Removal]) -> Iterator[bool]:
    """Remove the planned, a bounded piece with each step; each step is for a transaction of its own."""
    for removal in removals:
        (begin,) = connection.execute(
            "SELECT removed_sequence FROM chains WHERE number = ?", (removal.number,)
        ).fetchone()
        while begin < removal.upto.sequence:
            begin = min(begin + CHUNK_ROWS, removal.upto.sequence)
            head = _head_at(connection, removal.number, begin)
            if head is None:
                break  # somebody else took it away: for the verifier to say
            connection.execute(
                "UPDATE chains SET removed_sequence = ?, removed_sha256 = ? WHERE number = ?",
                (head.sequence, head.sha256, removal.number),
            )
            connection.execute(
                "DELETE FROM records WHERE chain = ? AND sequence <= ?", (removal.number, head.sequence)
            )
            yield True


def forget_excess(connection: Connection, most_bytes: int) -> None:
    """Remove the bytes that were of use longest ago, until the rest is within the bound."""
    (size,) = connection.execute("SELECT COALESCE(SUM(length(content)), 0) FROM contents").fetchone()
    if size <= most_bytes:
        return
    oldest = connection.execute(
        "SELECT version, length(content) FROM contents ORDER BY used_millis"
    ).fetchall()
    for version, length in oldest:
        if size <= most_bytes:
            break
        connection.execute("DELETE FROM contents WHERE version = ?", (version,))
        size -= length


def forget_contents(connection: Connection, cutoff: int) -> None:
    """Remove bytes that no kept record can name: of no use since `cutoff`, or since the oldest record."""
    (oldest,) = connection.execute("SELECT MIN(time_millis) FROM records").fetchone()
    before = max(cutoff, oldest if oldest is not None else cutoff) - _CONTENT_GRACE_MILLIS
    connection.execute("DELETE FROM contents WHERE used_millis < ?", (before,))
