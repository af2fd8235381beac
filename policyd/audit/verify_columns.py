"""What the columns of a record must say, worked out from its bytes (docs/reference/audit-store.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_TEXT = 512
_FACETS: Mapping[str, str] = {
    "event": "event", "id": "id", "direction": "direction", "namespace": "namespace", "pod": "pod",
    "workload": "workload", "service": "service", "route": "route", "table_version": "table",
    "facts_version": "facts",
}  # fmt: skip
"""Columns that repeat a text of the record."""


def columns_of(content: bytes) -> dict[str, Any]:
    """Return what the columns of a record must say (the table in docs/reference/audit-store.md)."""
    names = [*_FACETS, "time_millis", "port", "reason", "authorization", "method", "path", "peer", "count"]
    columns: dict[str, Any] = dict.fromkeys(names)
    line = _line(content)
    if line is None:
        return columns | {"event": "unreadable"}
    request, peer, audit = (line.get(name) or {} for name in ("request", "peer", "audit"))
    would = line.get("event") == "would_deny"
    texts = {column: line.get(name) for column, name in _FACETS.items()} | {
        "reason": (audit if would else line).get("reason"),
        "authorization": (", ".join(audit.get("authorizations") or ()) or None)
        if would
        else line.get("authorization"),
        "method": request.get("method"),
        "path": request.get("path"),
        "peer": peer.get("identity") or peer.get("ip"),
    }
    columns |= {name: None if text is None else text[:_TEXT] for name, text in texts.items()}
    columns["event"] = columns["event"] or "unreadable"
    for name in ("port", "count"):
        number = line.get(name)
        columns[name] = None if number is None else max(-(2**63), min(number, 2**63 - 1))
    columns["time_millis"] = _millis(line.get("time"))
    return columns


_SHAPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*_FACETS.values(), "time", "reason", "authorization"), str),
    **dict.fromkeys(("port", "count"), int),
    **dict.fromkeys(("request", "peer", "audit"), dict),
}
_INNER = {"request": ("method", "path"), "peer": ("identity", "ip"), "audit": ("reason",)}


def _line(content: bytes) -> dict[str, Any] | None:
    """Return the object that a record is; None where it is none, or a field of ours has another type."""
    try:
        line = json.loads(content.decode("utf-8"), parse_constant=_refuse)
        json.dumps(line, ensure_ascii=False).encode("utf-8")  # half a surrogate is no text
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not all(_is(line.get(name), kind) for name, kind in _SHAPES.items()):
        return None
    if "event" in line and line["event"] is None:
        return None
    for name, fields in _INNER.items():
        if not all(_is((line.get(name) or {}).get(each), str) for each in fields):
            return None
    listed = (line.get("audit") or {}).get("authorizations", [])
    sound = isinstance(listed, list) and all(isinstance(each, str) for each in listed)
    return line if sound else None


def _is(value: object, kind: type | tuple[type, ...]) -> bool:
    return value is None or (isinstance(value, kind) and not isinstance(value, bool))


def _refuse(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def _millis(text: str | None) -> int | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if at.tzinfo is None else round(at.timestamp() * 1000)
