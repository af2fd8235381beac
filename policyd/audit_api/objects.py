"""Denials as objects of the API: records in an envelope, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from policyd.audit import asks
from policyd.audit.record import DENIAL, WOULD_DENY
from policyd.audit.store import Filter, Reading, Row
from policyd.audit_api.asked import Asked, token_of
from policyd.audit_api.names import GROUP_VERSION, MOST_GROUPS, MOST_LISTED
from policyd.audit_api.refusal import not_found
from policyd.model.names import is_object_name
from policyd.resources.instants import at_millis, rfc3339

MOST_PAGE_BYTES: Final = 4 * 1024 * 1024
"""Of records in one answer; then `continue` says where it goes on."""
MOST_GAPS: Final = 100
"""Gaps that one answer tells, the newest."""

Object = dict[str, Any]


def listed(store: Reading, asked: Asked) -> Object:
    """Return a page of denials, the newest first. May take a while, as all here. Raises StoreUnavailable."""
    limit = min(asked.limit, MOST_LISTED)
    last = store.last_place()
    rows = _rows(store, asked, limit)
    page, cut = _fitting(rows)
    more = cut or (len(rows) >= limit and asked.identifier is None)
    metadata: Object = {"resourceVersion": str(last)}
    if more and page:
        metadata["continue"] = token_of(asked, page[-1]["place"])
    items = [denial(row) for row in _once(page)]
    first = asked.filter.before is None and asked.identifier is None
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "DenialList",
        "metadata": metadata,
        "items": items,
        "gaps": gaps(store, asked.filter) if first else [],
    }


def _rows(store: Reading, asked: Asked, limit: int) -> Sequence[Row]:
    """Return the newest first."""
    if asked.identifier is None:
        return store.records(asked.filter, limit)[::-1]
    found = store.find(asked.identifier, asked.namespace)
    return [row for row in found if row["event"] in (DENIAL, WOULD_DENY)][:limit]


def one(store: Reading, namespace: str, name: str) -> Row:
    """Return the record of an id in a namespace. Raises Refusal: of another namespace's nothing is told."""
    found = [row for row in store.find(name, namespace) if row["id"] == name.lower()]
    if not found:
        raise not_found(name)
    return found[0]


def grouped(store: Reading, asked: Asked) -> Object:
    """Return equal denials as one object each, the most frequent first."""
    wanted = replace(asked.filter, before=None)
    last = store.last_place()
    groups = store.groups(wanted, min(asked.limit, MOST_GROUPS))
    items = [
        {
            "apiVersion": GROUP_VERSION,
            "kind": "DenialGroup",
            "metadata": _meta(row["example"], row["namespace"], row["last"], None),
            "group": dict(row),
        }
        for row in groups
    ]
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "DenialGroupList",
        "metadata": {"resourceVersion": str(last)},
        "items": items,
        "gaps": gaps(store, wanted),
    }


def gaps(store: Reading, wanted: Filter) -> list[Object]:
    """Return what writers of the namespace said of lost records and new chains, newest first."""
    return [gap(row) for row in store.gaps(wanted)[:MOST_GAPS]]


def gap(row: Row) -> Object:
    """Return one of them."""
    return {**asks.record_of(row), "writer": row["writer"]}


def denial(row: Row) -> Object:
    """Return a record as an object. Its name is its id."""
    record = asks.record_of(row)
    place = record.pop("place")
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "Denial",
        "metadata": _meta(row["id"], row["namespace"], row["time_millis"], place),
        "record": record,
    }


def _meta(name: str | None, namespace: str | None, millis: int | None, place: int | None) -> Object:
    """Return metadata. What a proxy wrote that can be no name stands under its place alone."""
    usable = name if name is not None and is_object_name(name) else f"place-{place}"
    meta: Object = {"name": usable, "creationTimestamp": _instant(millis)}
    if namespace:
        meta["namespace"] = namespace
    if place is not None:
        meta |= {"uid": usable, "resourceVersion": str(place)}
    return meta


def _instant(millis: int | None) -> str | None:
    if millis is None:
        return None
    try:
        return rfc3339(at_millis(millis))
    except (ValueError, OverflowError, OSError):
        return None


def _fitting(rows: Sequence[Row]) -> tuple[list[Row], bool]:
    """Return the first of them that fit into an answer, at least one, and whether some didn't."""
    size = 0
    page: list[Row] = []
    for row in rows:
        size += len(row["json"])
        if page and size > MOST_PAGE_BYTES:
            return page, True
        page.append(row)
    return page, False


def _once(rows: Iterable[Row]) -> list[Row]:
    """Leave out what was delivered twice: a writer that began another chain may do that."""
    kept: Mapping[object, Row] = {row["id"] or row["place"]: row for row in rows}
    return list(kept.values())
