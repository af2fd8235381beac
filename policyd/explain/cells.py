"""A denial in words, one cell each: what `policyctl denials` and `kubectl get denials` print alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyd.explain.readable import short_identity, short_name

Record = Mapping[str, Any]


def record_cells(record: Record) -> tuple[str, ...]:
    """Return time, caller, callee, request, reason and rule of a record."""
    peer, request, audit = (_part(record, name) for name in ("peer", "request", "audit"))
    would = record.get("event") == "would_deny"
    rule = ", ".join(map(str, audit.get("authorizations") or ())) if would else record.get("authorization")
    return (
        str(record.get("time") or "-"),
        caller(peer.get("identity") or peer.get("ip")),
        callee(record),
        f"{request.get('method')} {request.get('path')}" if request else "-",
        str((audit if would else record).get("reason") or "-"),
        rule_name(rule),
    )


def group_cells(row: Record) -> tuple[str, ...]:
    """Return caller, callee, request, reason and rule of a group."""
    route = f"{row['method'] or ''} {short_name(row['route'])}".strip() if row["route"] else None
    single = f"{row['method'] or ''} {row['path'] or ''}".strip()
    return (
        caller(row["peer"]),
        callee(row),
        route or single or "-",
        row["reason"] or "-",
        rule_name(row["authorization"]),
    )


def caller(peer: object) -> str:
    """Return who asked."""
    return short_identity(peer) or "-" if isinstance(peer, str) else "-"


def callee(record: Record) -> str:
    """Return who was asked; outbound, the Service that the workload asked."""
    if record.get("direction") == "outbound" and record.get("service"):
        return f"{record['service']} (outbound of {record.get('workload') or '?'})"
    return f"{record.get('workload') or '?'}:{record.get('port')}"


def rule_name(name: object) -> str:
    """Return the names of rules without their group."""
    return ", ".join(short_name(each) for each in name.split(", ")) if isinstance(name, str) and name else "-"


def _part(record: Record, name: str) -> Record:
    found = record.get(name)
    return found if isinstance(found, dict) else {}
