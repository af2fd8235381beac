"""Questions in JSON: what policyd's status socket answers, and a command that reads the folder itself.

`{"ask": "denials", "by": "group" | "record", "filter": {…}, "limit": n}`, `{"ask": "denial", "id": …}`,
`{"ask": "tables", "workload": …}`, `{"ask": "table", "version": …}`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from policyd.audit.queries import IDENTIFIER
from policyd.audit.record import UNREADABLE
from policyd.audit.store import DENIALS, MOST_ROWS, WOULD_BE, Filter, Reading, Row
from policyd.errors import StoreUnavailable

MOST_CANDIDATES = 20
"""Ids that are listed where one is ambiguous."""

Answer = Mapping[str, Any]


class _Wanted(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    since: int | None = None
    until: int | None = None
    namespace: str | None = None
    workload: str | None = None
    reason: str | None = None
    peer: str | None = None
    would_be: bool = False
    after: int = 0


class _Denials(msgspec.Struct):
    by: str = "group"
    limit: int = MOST_ROWS
    filter: _Wanted = msgspec.field(default_factory=_Wanted)


def answer(store: Reading, question: Mapping[str, Any]) -> Answer:
    """Answer a question; `{"error": …}` where it can't be. May take a while."""
    ask = _ASKS.get(str(question.get("ask")))
    if ask is None:
        return {"error": f"expected ask to be one of {', '.join(_ASKS)}"}
    try:
        return ask(store, question)
    except StoreUnavailable as error:
        return {"error": str(error), "code": "unavailable"}
    except msgspec.ValidationError as error:
        return {"error": f"not such a question: {error}", "code": "usage"}


def _denials(store: Reading, question: Mapping[str, Any]) -> Answer:
    asked = msgspec.convert(dict(question), _Denials)
    given = asked.filter
    events = WOULD_BE if given.would_be else DENIALS
    fields = (given.since, given.until, given.namespace, given.workload, given.reason, given.peer)
    wanted = Filter(*fields, events, given.after)
    last = store.last_place()
    gaps = [{**record_of(row), "writer": row["writer"]} for row in store.gaps(wanted)]
    if asked.by == "group":
        return {"denials": store.groups(wanted, asked.limit), "gaps": gaps, "last": last}
    rows = {row["id"] or row["place"]: row for row in store.records(wanted, asked.limit)}.values()
    return {"denials": [record_of(row) for row in rows], "gaps": gaps, "last": last}


def _denial(store: Reading, question: Mapping[str, Any]) -> Answer:
    """Return the one record of an id or of its beginning, or the candidates."""
    identifier = str(question.get("id"))
    if not IDENTIFIER.fullmatch(identifier):
        return {
            "error": f"{identifier!r:.80}: an id, or at least 8 characters of its beginning, is expected",
            "code": "usage",
        }
    found = {row["id"]: row for row in store.find(identifier)}
    if not found:
        return {"error": f"{identifier}: no such denial is kept", "code": "unknown"}
    if len(found) > 1:
        rows = list(found.values())[:MOST_CANDIDATES]
        return {"ambiguous": [record_of(row) for row in rows], "count": len(found)}
    return {"denial": record_of(next(iter(found.values())))}


def _tables(store: Reading, question: Mapping[str, Any]) -> Answer:
    return {"tables": [record_of(row) for row in store.tables(str(question.get("workload")), MOST_ROWS)]}


def _table(store: Reading, question: Mapping[str, Any]) -> Answer:
    version = str(question.get("version"))
    content = store.content(version)
    if content is None:
        return {"error": f"{version:.80}: these bytes are not kept", "code": "unknown"}
    return {"version": version, "content": base64.b64encode(content).decode()}


def record_of(row: Row) -> dict[str, Any]:
    """Return a record with its place; one that can't be read says so."""
    try:
        decoded = msgspec.json.decode(row["json"])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        decoded = None
    record = decoded if isinstance(decoded, dict) and row["event"] != UNREADABLE else {"event": UNREADABLE}
    return {**record, "place": row["place"]}


_ASKS: Mapping[str, Callable[[Reading, Mapping[str, Any]], Answer]] = {
    "denials": _denials,
    "denial": _denial,
    "tables": _tables,
    "table": _table,
}
ASKS = tuple(_ASKS)
"""The questions that this module answers."""
