"""Denials as rows: grouped, single, and what stands in the place of lost ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyd.explain.cells import group_cells, record_cells
from policyd.resources.instants import at_millis, rfc3339

GROUP_COLUMNS = ("denials", "first", "last", "caller", "to", "request", "reason", "rule", "example")
LIST_COLUMNS = ("time", "caller", "to", "request", "reason", "rule", "id")

Record = Mapping[str, Any]


def group_row(row: Record) -> tuple[str, ...]:
    """Return a group's cells, by GROUP_COLUMNS."""
    return (
        str(row["denials"]),
        _instant(row["first"]),
        _instant(row["last"]),
        *group_cells(row),
        row["example"] or "-",
    )


def group_data(row: Record) -> dict[str, Any]:
    """Return a group for programs; `path` is that of the example, the newest."""
    kept = {name: value for name, value in row.items() if name not in {"denials", "first", "last", "example"}}
    return {
        "count": row["denials"],
        "first": _instant_data(row["first"]),
        "last": _instant_data(row["last"]),
        "example": row["example"],
        **kept,
    }


def list_row(record: Record) -> tuple[str, ...]:
    """Return a record's cells, by LIST_COLUMNS."""
    return (*record_cells(record), str(record.get("id") or "-"))


def gap_line(record: Record) -> str:
    """Say what a record that is no denial means."""
    who, at = record.get("writer") or "?", record.get("time") or "at a time unknown"
    match record.get("event"):
        case "lost":
            return (
                f"lost   {record.get('count')} denials of {who}, {record.get('reason') or 'unsaid why'}, {at}"
            )
        case "chain":
            why = f" ({record['reason']})" if record.get("reason") else ""
            return f"chain  {who} began another chain after {record.get('after') or 'one unknown'}{why}, {at}"
        case _:
            return f"       a record of {who} can't be read"


def record_data(record: Record) -> dict[str, Any]:
    """Return a record as it was delivered."""
    return {name: value for name, value in record.items() if name != "place"}


def _instant(millis: int | None) -> str:
    """Return a time as people read it: to the second, in UTC."""
    return "-" if millis is None else at_millis(millis).strftime("%m-%d %H:%M:%S")


def _instant_data(millis: int | None) -> str | None:
    return None if millis is None else rfc3339(at_millis(millis), "milliseconds")
