"""Questions to the store. Every question has a connection of its own, so that none waits for another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from policyd.audit.database import Database
from policyd.audit.record import QUOTED, TABLE
from policyd.audit.store import GAP_EVENTS, MOST_ROWS, Filter, Row

MOST_TABLES = 500
"""Tables of one workload that a question goes back to."""
IDENTIFIER = re.compile(r"[0-9a-zA-Z-]{8,64}", re.ASCII)
"""What can be the beginning of an id."""
_EQUAL = (
    "event",
    "direction",
    "namespace",
    "workload",
    "service",
    "port",
    "reason",
    "authorization",
    "route",
)
_GROUP = (*_EQUAL, "method", "peer")
_ACCOUNT = re.compile(r"[a-z0-9.-]+/[a-z0-9.-]+", re.ASCII)


class Queries:
    """What is read of a store, by policyd or by a command while policyd isn't there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, identifier: str, namespace: str | None = None) -> list[Row]:
        """Return the records of an id, or of every id that begins so, of a namespace; at most MOST_ROWS."""
        if not IDENTIFIER.fullmatch(identifier):
            return []
        text = identifier.lower()
        return self._rows(
            f"SELECT {_listed()} FROM records WHERE id >= ? AND id < ? "  # noqa: S608
            "AND (CAST(? AS TEXT) IS NULL OR namespace = ?) ORDER BY id, place LIMIT ?",
            (text, text + "~", namespace, namespace, MOST_ROWS),
        )

    def groups(self, wanted: Filter, limit: int) -> list[Row]:
        """Return equal denials as one row each, the most frequent first."""
        where, values = self._where(wanted)
        names = [QUOTED[name] for name in _GROUP]
        columns, equal = ", ".join(names), ", ".join(f"equal.{name}" for name in names)
        # A writer that had to begin another chain may deliver again what it doesn't know to be kept.
        return self._rows(
            f"SELECT {equal}, denials, first, last, records.id AS example, records.path AS path FROM ("  # noqa: S608
            f"SELECT {columns}, COUNT(DISTINCT COALESCE(id, CAST(place AS TEXT))) AS denials, "
            "MIN(time_millis) AS first, "
            f"MAX(time_millis) AS last, MAX(place) AS newest FROM records WHERE {where} "
            f"GROUP BY {columns} ORDER BY denials DESC, last DESC LIMIT ?) AS equal "
            "JOIN records ON records.place = equal.newest ORDER BY denials DESC, last DESC",
            (*values, min(limit, MOST_ROWS)),
        )

    def records(self, wanted: Filter, limit: int) -> list[Row]:
        """Return the newest records, the oldest of them first; with `after` the next ones."""
        where, values = self._where(wanted)
        order = "place" if wanted.after else "place DESC"
        rows = self._rows(
            f"SELECT {_listed()} FROM records WHERE {where} ORDER BY {order} LIMIT ?",  # noqa: S608
            (*values, min(limit, MOST_ROWS)),
        )
        return rows if wanted.after else rows[::-1]

    def gaps(self, wanted: Filter) -> list[Row]:
        """Return what writers said of lost records and new chains, newest first, each with its `writer`."""
        marks = ", ".join("?" * len(GAP_EVENTS))
        return self._rows(
            f"SELECT {_listed()}, chains.namespace || '/' || chains.pod AS writer "  # noqa: S608
            "FROM records JOIN chains ON chains.number = records.chain "
            f"WHERE event IN ({marks}) AND place > ? "
            "AND (time_millis IS NULL OR time_millis BETWEEN ? AND ?) "
            "AND (CAST(? AS TEXT) IS NULL OR chains.namespace = ?) ORDER BY place DESC LIMIT ?",
            (
                *GAP_EVENTS,
                wanted.after,
                wanted.since if wanted.since is not None else -(2**62),
                wanted.until - 1 if wanted.until is not None else 2**62,
                wanted.namespace,
                wanted.namespace,
                MOST_ROWS,
            ),
        )

    def tables(self, workload: str, limit: int) -> list[Row]:
        """Return the `table` records of a workload, newest first."""
        return self._rows(
            f"SELECT {_listed()} FROM records WHERE event = ? AND workload = ? "  # noqa: S608
            "ORDER BY time_millis DESC, place DESC LIMIT ?",
            (TABLE, workload, min(limit, MOST_TABLES)),
        )

    def content(self, version: str) -> bytes | None:
        """Return bytes by hash."""
        found = self._rows("SELECT content FROM contents WHERE version = ?", (version,))
        return found[0]["content"] if found else None

    def last_place(self) -> int:
        """Return the place of the newest record."""
        return int(self._rows("SELECT COALESCE(MAX(place), 0) AS last FROM records", ())[0]["last"])

    def rollbacks(self) -> int:
        """Return how often a writer named a record that should be here."""
        return int(self._rows("SELECT COUNT(*) AS told FROM rollbacks", ())[0]["told"])

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(sql, values)]

    def _where(self, wanted: Filter) -> tuple[str, list[Any]]:
        """Return a condition and its values."""
        marks = ", ".join("?" * len(wanted.events))
        conditions: list[tuple[str, Sequence[Any]]] = [(f"event IN ({marks})", wanted.events)]
        for column, value in (
            ("time_millis >= ?", wanted.since),
            ("time_millis < ?", wanted.until),
            ("namespace = ?", wanted.namespace),
            ("workload = ?", wanted.workload),
            ("reason = ?", wanted.reason),
            ("place < ?", wanted.before),
        ):
            if value is not None:
                conditions.append((column, (value,)))
        if wanted.after:
            conditions.append(("place > ?", (wanted.after,)))
        if wanted.peer is not None:
            conditions.append(self._peer(wanted.peer))
        values = [each for _, given in conditions for each in given]
        return " AND ".join(text for text, _ in conditions), values

    def _peer(self, text: str) -> tuple[str, Sequence[Any]]:
        if not _ACCOUNT.fullmatch(text):
            return "peer = ?", (text,)
        namespace, _, name = text.partition("/")
        return self._database.account_pattern, (namespace, name)


def _listed() -> str:
    return ", ".join(f"records.{name}" for name in ("place", "sequence", "json", *QUOTED.values()))
