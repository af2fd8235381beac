"""What changed since a denied request was last allowed: its workload's kept tables, asked one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import msgspec

from policyd.compile.rows import ConditionSubject, Port, RouteKind
from policyd.compile.table import CompiledTable
from policyd.engine import Table
from policyd.errors import EngineError
from policyd.explain.answer import Decision
from policyd.explain.logged import Logged
from policyd.explain.manifests import Manifests
from policyd.explain.question import Question
from policyd.explain.recorded import table_of
from policyd.resources.instants import read_instant
from policyd.sources.history import Written, written

MOST_TABLES = 200
"""Tables that are asked; a workload that changed more often is told about its newest ones."""

_CLOCK = timedelta(seconds=1)
"""Files and commits have times of whole seconds."""

Content = Callable[[str], bytes | None]
"""Bytes by `sha256:…`; None where they aren't kept any more."""


class Place(msgspec.Struct, frozen=True):
    """Where an object changed, and who wrote that. `author` and `commit` are None outside of git."""

    field: str = ""
    place: str = ""
    at: str | None = None
    author: str | None = None
    commit: str | None = None
    through: str | None = None


class ObjectChange(msgspec.Struct, frozen=True):
    """An object that came, went or changed: `what` is `added`, `removed` or `updated`."""

    what: str
    object: str
    places: tuple[Place, ...] = ()
    logged: Logged | None = None
    """What the API server's audit log tells of it; None where none was looked into."""


class TableRecord(msgspec.Struct, frozen=True):
    """When a table came into force for its workload, and in what it differs from the one before."""

    table: str
    time: str
    changes: tuple[ObjectChange, ...] = ()
    before: str | None = None


class Past(msgspec.Struct, frozen=True, rename="camel"):
    """What the kept tables say of a denied request.

    `denied_by` is the first table of the row that ends with the denial. `allowed_by` is the one before, None
    where none that is kept allowed it. `ended`: no change but time took the grant away. `unknown`: what would
    have to be known of the request, and wasn't recorded. `looked`: how many tables were asked.
    """

    denied_by: TableRecord | None
    allowed_by: TableRecord | None = None
    ended: bool = False
    unknown: tuple[str, ...] = ()
    looked: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A recorded question, the table that decided it, and that table's version."""

    question: Question
    table: CompiledTable

    def unknown_on(self, other: CompiledTable) -> tuple[str, ...]:
        """Say what another table reads of such a request and the deciding one didn't: nobody recorded it."""
        if not self.question.is_http:
            return ()
        missing = reads(other, self.question.port) - reads(self.table, self.question.port)
        return tuple(f"{kind} {name} was not recorded" for kind, name in sorted(missing))


def past_of(asked: Asked, tables: Sequence[TableRecord], content: Content) -> Past:
    """Go back from the table that denied to the one that last allowed. `tables`: the newest first."""
    rows = _until_denial(asked, tables)
    denied: TableRecord | None = None
    unknown: dict[str, None] = {}
    looked = 0
    for row in rows[:MOST_TABLES]:
        kept = content(row.table)
        if kept is None:
            break
        try:
            table = table_of(kept)
        except EngineError:
            break  # written by another version: nobody can say any more
        looked += 1
        lacking = asked.unknown_on(table)
        unknown.update(dict.fromkeys(lacking))
        if not lacking and _allows(table, asked.question):
            return Past(denied, row, unknown=tuple(unknown), looked=looked)
        denied = row
    ended = bool(rows) and _allows(asked.table, _asked_at(asked.question, rows[0].time))
    return Past(denied, None, ended, tuple(unknown), looked)


def _until_denial(asked: Asked, tables: Sequence[TableRecord]) -> Sequence[TableRecord]:
    """Leave out what came into force after the table that denied."""
    for index, row in enumerate(tables):
        if row.table == asked.table.version and read_instant(row.time) <= asked.question.at:
            return tables[index:]
    found = (index for index, row in enumerate(tables) if row.table == asked.table.version)
    return tables[next(found, len(tables)) :]


def _asked_at(question: Question, time: str) -> Question:
    return replace(question, at=read_instant(time))


def _allows(table: CompiledTable, question: Question) -> bool:
    answer = Table(table.snapshot).decide(question.encode())
    return msgspec.json.decode(answer, type=Decision).allowed


def reads(table: CompiledTable, number: int) -> frozenset[tuple[str, str]]:
    """Return which headers and query keys a port's rules and routes look at: (`header`, name)."""
    part = table.workload
    port = next((port for port in part.ports if port.number == number), part.other)
    found = set(_of_routes(table, port))
    own = ((part.pools, part.rules[index]) for index in port.rules)
    for pools, rule in (*own, *((table.cluster.pools, rule) for rule in table.cluster.rules)):
        for condition in (pools.conditions[index] for index in rule.conditions):
            if condition.subject in (ConditionSubject.HEADER, ConditionSubject.QUERY):
                found.add((condition.subject.name.lower(), condition.name))
    return frozenset(found)


def _of_routes(table: CompiledTable, port: Port) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for route in (table.workload.routes[index] for index in port.routes):
        for match in (match for rule in route.rules for match in rule.matches):
            found |= {("header", each.name) for each in match.headers}
            found |= {("query", each.name) for each in match.query}
        if route.kind is RouteKind.GRPC:
            found.discard(("header", "content-type"))
    return found


def attributed(past: Past, manifests: Manifests) -> Past:
    """Add authors of what was saved first and committed later, where the place still is as it was saved."""
    if past.denied_by is None:
        return past
    changes = tuple(_attributed(change, manifests) for change in past.denied_by.changes)
    return msgspec.structs.replace(past, denied_by=msgspec.structs.replace(past.denied_by, changes=changes))


def _attributed(change: ObjectChange, manifests: Manifests) -> ObjectChange:
    found = manifests.object_named(change.object)
    if found is None:
        return change
    places = (
        _committed(place, written(found.position(place.field))) if place.commit is None else place
        for place in change.places
    )
    return msgspec.structs.replace(change, places=tuple(places))


def _committed(place: Place, wrote: Written | None) -> Place:
    """Take over a commit from after the saving: that of what was saved, or of what replaced it there."""
    if wrote is None or wrote.commit is None or place.at is None:
        return place
    if wrote.at < read_instant(place.at) - _CLOCK:
        return place
    return msgspec.structs.replace(place, author=wrote.author, commit=wrote.commit)


def read_tables(records: Sequence[Mapping[str, Any]]) -> list[TableRecord]:
    """Read `table` records; one that can't be read is left out."""
    found = []
    for record in records:
        try:
            found.append(msgspec.convert(dict(record), TableRecord))
        except msgspec.ValidationError:
            continue
    return found
