"""What proxies are told, into the audit store: tables and pod facts by hash, and why a table changed.

Nothing here holds up a stream: what asks git or the disk runs on a thread of its own.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from policyd.audit.record import TABLE
from policyd.audit.store import Content, Store
from policyd.compile.table import CompiledTable
from policyd.distribute.envelope import sha256
from policyd.distribute.table_sources import (
    MOST_CHANGES,
    Sources,
    differences,
    only_digests,
    sources_of,
    versions,
)
from policyd.errors import StoreUnavailable
from policyd.index.world import World
from policyd.model.names import ObjectKey
from policyd.resources.instants import rfc3339

_T = TypeVar("_T")

MOST_PODS = 50_000
MOST_WORKLOADS = 20_000
MOST_WAITING = 10_000
"""Changes whose authors are still looked up; beyond that they are recorded without."""


@dataclass(frozen=True, slots=True)
class Telling:
    """One pod's table and facts, as they are told to it now."""

    pod: str
    workload: str
    member: ObjectKey
    table: CompiledTable
    facts: Content


@dataclass(frozen=True, slots=True)
class _Change:
    workload: str
    namespace: str
    version: str
    at_millis: int
    sources: Sources


class Trail:
    """Remembers what was told last, so that telling the same again costs a look."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._of_workload: OrderedDict[str, str] = OrderedDict()
        self._before: OrderedDict[str, tuple[str, Sources]] = OrderedDict()
        self._waiting = 0
        self._recorder = ThreadPoolExecutor(1, "trail")

    def in_force(self) -> Iterable[str]:
        """Return the versions that are told now."""
        return {version for pair in list(self._told.values()) for version in pair}

    def told(self, world: World, telling: Telling) -> None:
        """Keep what a pod is told; record it where its workload's table is another than before."""
        now = (telling.table.version, telling.facts.version)
        before = self._told.get(telling.pod)
        if before == now:
            return
        _remember(self._told, telling.pod, now, MOST_PODS)
        table = Content("table", telling.table.version, telling.table.snapshot)
        self._store.keep([table, telling.facts])
        again = before is not None and before[0] == now[0]
        if again or self._of_workload.get(telling.workload) == now[0]:
            return
        _remember(self._of_workload, telling.workload, now[0], MOST_WORKLOADS)
        if self._waiting >= MOST_WAITING:
            structlog.get_logger().warning("table_change_not_recorded", workload=telling.workload)
            return
        self._waiting += 1
        sources = sources_of(world, telling.table, telling.member)
        millis = time.time_ns() // 1_000_000
        self._recorder.submit(
            self._record, _Change(telling.workload, telling.member.namespace, now[0], millis, sources)
        )

    def close(self) -> None:
        """Record what is being looked up; the next run finds by itself what it was not told of."""
        self._recorder.shutdown(cancel_futures=True)

    def _record(self, change: _Change) -> None:
        self._waiting -= 1
        try:
            before = self._before.get(change.workload) or self._kept(change.workload)
            _remember(self._before, change.workload, (change.version, change.sources), MOST_WORKLOADS)
            if before is not None and before[0] == change.version:
                return
            self._note(change, before)
        except Exception:  # a change without a record is worse than a noisy log
            structlog.get_logger().exception("table_change_not_recorded", workload=change.workload)

    def _kept(self, workload: str) -> tuple[str, Sources] | None:
        """Return what the store knows of the table before, of a run before this."""
        try:
            rows = self._store.tables(workload, 1)
            record = json.loads(rows[0]["json"]) if rows else {}
            content = self._store.content(str(record.get("sources"))) if record else None
        except (StoreUnavailable, ValueError):
            return None
        if not record:
            return None
        digests = json.loads(content) if content is not None else {}
        return str(record.get("table")), only_digests(digests.items())

    def _note(self, change: _Change, before: tuple[str, Sources] | None) -> None:
        listed = json.dumps(versions(change.sources), sort_keys=True).encode()
        sources = Content("sources", f"sha256:{sha256(listed).hex()}", listed)
        changes = [] if before is None else differences(before[1], change.sources)
        at = datetime.fromtimestamp(change.at_millis / 1000, UTC)
        record = {
            "event": TABLE,
            "time": rfc3339(at, "milliseconds"),
            "namespace": change.namespace,
            "workload": change.workload,
            "table": change.version,
            "before": None if before is None else before[0],
            "sources": sources.version,
            "changes": changes,
            "more": len(changes) >= MOST_CHANGES,
        }
        self._store.keep([sources])
        self._store.note(json.dumps(record, ensure_ascii=False).encode())


def _remember(kept: OrderedDict[str, _T], key: str, value: _T, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
