"""Whether anybody changed a store: written from docs/reference/audit-store.md, beside the code that writes.

It shares no code with the writer, needs no secret, and only reads.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from policyd.audit.verify_columns import columns_of
from policyd.audit.verify_heads import Finding, Said, heads_of

Version = Callable[[bytes], str]
"""The version of a snapshot's bytes, `sha256:…`; raises where they are none."""
_ORIGIN = bytes(32)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as the database says it is."""

    number: int
    name: str
    writer: Mapping[str, Any]
    head: tuple[int, bytes]
    removed: tuple[int, bytes]
    refused: str | None


@dataclass(slots=True)
class Result:
    """What was found. `tampered` is what nobody but somebody else than policyd could have done."""

    tampered: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    chains: int = 0
    records: int = 0
    lost: int = 0

    @property
    def verdict(self) -> Literal["ok", "tampered"]:
        return "tampered" if self.tampered else "ok"


class Trail(Protocol):
    """A store as a verifier reads it: one state of it, however long that takes."""

    @property
    def name(self) -> str:
        """As findings call it."""

    def reading(self) -> AbstractContextManager[Any]:
        """Open; rows have their columns by name, and in order."""

    def heads(self, connection: Any) -> bytes:
        """Return the signed lines, a newline after each. Raises OSError."""

    def damage(self, connection: Any) -> str | None:
        """Return what the database itself says is wrong with it."""

    def text(self, value: Any) -> Any:
        """Return a column's value as this database holds it."""


def verify(folder: Path, version: Version, roots: tuple[bytes, ...] = ()) -> Result:
    """Read a store in a folder whole. `roots` (DER): whom signatures must come from; none: whoever signed."""
    return verify_trail(_Folder(folder), version, roots)


def verify_trail(trail: Trail, version: Version, roots: tuple[bytes, ...] = ()) -> Result:
    """Read a store whole, wherever it is."""
    result = Result()
    try:
        with trail.reading() as connection:
            heads = _heads(trail, connection, roots)
            known = _read(connection, result, heads, (trail, version))
            _compare(result, known, heads, _meta(connection))
            again = _heads(trail, connection, roots)  # a living policyd may have signed meanwhile
            _compare_file(result, _meta(connection), (heads, again))
            _told(connection, result, heads)
            result.tampered += heads.problems
            result.notes += heads.notes
    except trail_faults() as error:
        result.tampered.append(Finding("the database can't be read", f"{trail.name}: {error}"))
    return result


def trail_faults() -> tuple[type[Exception], ...]:
    """Return what a database that isn't one, or isn't there, raises."""
    return (sqlite3.Error, OSError, LookupError, TypeError, ValueError, AttributeError)


def _heads(trail: Trail, connection: Any, roots: tuple[bytes, ...]) -> Said:
    try:
        return heads_of(trail.heads(connection), roots)
    except OSError as error:
        said = Said()
        said.problems.append(Finding("the heads can't be read", error.strerror or ""))
        return said


@dataclass(frozen=True, slots=True)
class _Folder:
    """An SQLite database, and the file of heads beside it."""

    folder: Path
    name: str = "audit.sqlite"

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with closing(_open(self.folder / self.name)) as connection:
            # One state of the database; of the file, whatever a living policyd writes meanwhile.
            connection.execute("BEGIN")
            yield connection

    def heads(self, connection: Any) -> bytes:
        del connection
        return (self.folder / "heads.jsonl").read_bytes()

    def damage(self, connection: Any) -> str | None:
        (problem,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        return None if problem == "ok" else str(problem)

    def text(self, value: Any) -> Any:
        return value


def _open(database: Path) -> sqlite3.Connection:
    if not database.is_file():
        raise sqlite3.OperationalError("it is not there")
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def _meta(connection: Any) -> Mapping[str, str]:
    return {row["name"]: row["value"] for row in connection.execute("SELECT name, value FROM meta")}


def _read(
    connection: Any, result: Result, heads: Said, how: tuple[Trail, Version]
) -> dict[str, tuple[Chain, _Seen]]:
    """Check every chain by itself, and everything that is kept by hash."""
    trail, version = how
    problem = trail.damage(connection)
    if problem is not None:
        result.tampered.append(Finding("the database is damaged", problem))
    found: dict[str, tuple[Chain, _Seen]] = {}
    for row in connection.execute("SELECT * FROM chains ORDER BY number").fetchall():
        chain = _chain(row)
        found[chain.name] = (chain, _check_chain(connection, chain, (trail, result), heads.asked(chain.name)))
    (stray,) = connection.execute(
        "SELECT COUNT(*) FROM records WHERE chain NOT IN (SELECT number FROM chains)"
    ).fetchone()
    if stray:
        result.tampered.append(Finding("records of a chain that isn't there", str(stray)))
    _check_contents(connection, result, version)
    result.chains = len(found)
    return found


def _chain(row: Any) -> Chain:
    names = {"identity": "identity", "podUID": "pod_uid", "namespace": "namespace", "pod": "pod"}
    return Chain(
        row["number"],
        _hex(row["chain"]),
        {said: row[column] for said, column in (*names.items(), ("workload", "workload"))},
        (row["head_sequence"], row["head_sha256"]),
        (row["removed_sequence"], row["removed_sha256"]),
        row["refused"],
    )


@dataclass(slots=True)
class _Seen:
    """The hashes of the records that some line of the heads names."""

    hashes: dict[int, bytes] = field(default_factory=dict)


def _check_chain(connection: Any, chain: Chain, into: tuple[Trail, Result], asked: frozenset[int]) -> _Seen:
    """Follow a chain from its kept beginning. The first that is wrong is named, the rest not looked at."""
    trail, result = into
    seen = _Seen({chain.removed[0]: chain.removed[1]})
    previous, sequence = chain.removed[1], chain.removed[0]
    if sequence == 0 and previous != _ORIGIN:
        result.tampered.append(Finding("the beginning isn't one", chain=chain.name, sequence=1))
    rows = connection.execute("SELECT * FROM records WHERE chain = ? ORDER BY sequence", (chain.number,))
    for row in rows:
        sequence += 1
        problem = _problem(chain, row, (sequence, previous), trail)
        if problem is not None:
            result.tampered.append(Finding(problem, chain=chain.name, sequence=sequence))
            return seen
        previous = row["sha256"]
        if sequence in asked:
            seen.hashes[sequence] = previous
        result.records += 1
        if row["event"] == "lost":
            result.lost += row["count"] or 0
            who = f"{chain.writer['namespace']}/{chain.writer['pod']}"
            text = f"{row['count']} denials that {who} says were lost"
            result.notes.append(Finding(text, chain=chain.name, sequence=sequence))
    if (sequence, previous) != chain.head:
        at = min(sequence, chain.head[0]) + 1
        result.tampered.append(
            Finding(f"it ends at {sequence}, not at {chain.head[0]}", chain=chain.name, sequence=at)
        )
    return seen


def _problem(chain: Chain, row: Any, due: tuple[int, bytes], trail: Trail) -> str | None:
    """Say what is wrong with a record that should have a sequence, and follow a hash."""
    sequence, previous = due
    if row["sequence"] != sequence:
        return "a record is missing"
    if not isinstance(row["json"], bytes):
        return "the record isn't bytes"
    hashed = hashlib.sha256(b"policyd.v1.AuditRecord\0")
    for part in (bytes.fromhex(chain.name), sequence.to_bytes(8, "big"), previous, row["json"]):
        hashed.update(part)
    if hashed.digest() != row["sha256"]:
        return "the record isn't the one that was delivered"
    wrong = next(
        (name for name, value in columns_of(row["json"]).items() if row[name] != trail.text(value)), None
    )
    return None if wrong is None else f"column {wrong} says otherwise than the record"


def _check_contents(connection: Any, result: Result, version: Version) -> None:
    for row in connection.execute("SELECT version, kind, content FROM contents"):
        try:
            found = version(row["content"]) if row["kind"] == "table" else _sha256(row["content"])
        except Exception as error:  # whatever the bytes do to a reader, they aren't what was kept
            found = str(error)
        if found != row["version"]:
            result.tampered.append(Finding(f"the {row['kind']} {row['version']} has other bytes", found))


def _compare(
    result: Result, known: Mapping[str, tuple[Chain, _Seen]], heads: Said, meta: Mapping[str, str]
) -> None:
    """Hold everything that was ever signed, and is still there to read, against the database."""
    if heads.store is not None and heads.store != meta.get("store"):
        result.tampered.append(Finding("the heads are those of another database", heads.store))
        return
    for row in heads.rows:
        if row["chain"] not in known:
            missing = "the whole chain is missing"
            result.tampered.append(Finding(missing, chain=row["chain"], sequence=int(row["removed"]) + 1))
            continue
        chain, seen = known[row["chain"]]
        wrong = _against(chain, seen, row)
        if wrong is not None:
            result.tampered.append(Finding(wrong[1], chain=chain.name, sequence=wrong[0]))
    newest = {row["chain"]: row for row in heads.rows}
    for name, (chain, _) in known.items():
        signed = newest.get(name)
        allowed = 0 if signed is None else int(signed["removed"])
        if chain.removed[0] > allowed:
            gone = f"the beginning is gone up to {chain.removed[0]}; retention signed up to {allowed}"
            result.tampered.append(Finding(gone, chain=name, sequence=allowed + 1))


def _against(chain: Chain, seen: _Seen, row: Mapping[str, Any]) -> tuple[int, str] | None:
    """Say where a chain differs from what was signed of it: the first sequence, and how."""
    if chain.head[0] < row["sequence"]:
        return chain.head[
            0
        ] + 1, f"it ends at {chain.head[0]}; {row['sequence']} was signed: shortened or rolled back"
    for sequence, sha256 in ((row["sequence"], row["sha256"]), (row["removed"], row["removedSha256"])):
        if sequence in seen.hashes and _hex(seen.hashes[sequence]) != sha256:
            return sequence, "another record than the one that was signed"
    wrong = next((name for name, value in chain.writer.items() if row[name] != value), None)
    if wrong is not None:
        return chain.removed[0] + 1, f"its writer's {wrong} is another than the one that was signed"
    if row["refused"] is not None and row["refused"] != chain.refused:
        return chain.head[0] + 1, f"it was refused ({row['refused']}), and isn't any more"
    return None


def _compare_file(result: Result, meta: Mapping[str, str], readings: tuple[Said, Said]) -> None:
    """See whether the line that the database knows as the last is there."""
    last = meta.get("heads")
    if last is None:
        result.notes.append(Finding("no head was signed yet: nothing vouches for the ends of the chains"))
    elif not any(last in reading.lines for reading in readings):
        result.tampered.append(Finding("heads.jsonl lacks the line that was written last", last))


def _told(connection: Any, result: Result, heads: Said) -> None:
    """Pass on what returning writers said: that the store lacks what it acknowledged."""
    (kept,) = connection.execute("SELECT COUNT(*) FROM rollbacks").fetchone()
    if kept < heads.rollbacks:
        result.tampered.append(Finding(f"{heads.rollbacks} roll-backs were told, {kept} are kept"))
    for row in connection.execute("SELECT * FROM rollbacks ORDER BY at_millis"):
        text = f"{row['identity']} was acknowledged up to {row['sequence']}, and the store had {row['known']}"
        finding = Finding(f"rolled back: {text}", chain=_hex(row["chain"]), sequence=row["known"] + 1)
        result.tampered.append(finding)


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _hex(content: object) -> str:
    return content.hex() if isinstance(content, bytes) else repr(content)
