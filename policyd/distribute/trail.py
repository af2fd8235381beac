"""What proxies are told, into the audit store: tables and pod facts by hash, and why a table changed.

Nothing here holds up a stream: what asks git or the disk runs on threads of its own.
"""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import BoundedSemaphore
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
from policyd.resources.instants import at_millis, rfc3339

_T = TypeVar("_T")

MOST_PODS = 50_000
MOST_WORKLOADS = 20_000
MOST_WAITING = 50_000
"""Tables, or changes, that wait for their thread. What finds no room is looked at again with its pod."""


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
        self._in_force: Counter[str] = Counter()
        """How many pods are told each version."""
        self._of_workload: OrderedDict[str, str] = OrderedDict()
        self._before: OrderedDict[str, tuple[str, Sources]] = OrderedDict()
        self._keeper = _Line("tables")
        self._recorder = _Line("changes")
        """Of its own, since it asks git: a denial's table is looked for sooner than who changed it."""

    def in_force(self) -> Iterable[str]:
        """Return the versions that are told now."""
        return list(self._in_force)

    def told(self, world: World, telling: Telling) -> None:
        """Keep what a pod is told; record it where its workload's table is another than before."""
        now = (telling.table.version, telling.facts.version)
        before = self._told.get(telling.pod)
        if before == now:
            return
        table = Content("table", telling.table.version, telling.table.snapshot)
        new = [each for each in (table, telling.facts) if each.version not in self._in_force]
        if new and not self._keeper.take(partial(self._store.keep, new)):
            return
        again = before is not None and before[0] == now[0]
        if not again and self._of_workload.get(telling.workload) != now[0]:
            sources = sources_of(world, telling.table, telling.member)
            millis = time.time_ns() // 1_000_000
            change = _Change(telling.workload, telling.member.namespace, now[0], millis, sources)
            if not self._recorder.take(partial(self._record, change)):
                return
            _remember(self._of_workload, telling.workload, now[0], MOST_WORKLOADS)
        self._remember_told(telling.pod, now)

    def _remember_told(self, pod: str, now: tuple[str, str]) -> None:
        former = [self._told.pop(pod, ())]
        self._told[pod] = now
        self._in_force.update(now)
        while len(self._told) > MOST_PODS:
            former.append(self._told.popitem(last=False)[1])
        for version in (each for pair in former for each in pair):
            self._in_force[version] -= 1
            if not self._in_force[version]:
                del self._in_force[version]

    def close(self) -> None:
        """Keep every table; the next run finds by itself which change it was not told of."""
        self._keeper.close(unfinished=True)
        self._recorder.close(unfinished=False)

    def _record(self, change: _Change) -> None:
        before = self._before.get(change.workload) or self._kept(change.workload)
        _remember(self._before, change.workload, (change.version, change.sources), MOST_WORKLOADS)
        if before is None or before[0] != change.version:
            self._note(change, before)

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
        record = {
            "event": TABLE,
            "time": rfc3339(at_millis(change.at_millis), "milliseconds"),
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


class _Line:
    """Work for a thread of its own, one after the other. So much of it may wait."""

    def __init__(self, name: str) -> None:
        self._room = BoundedSemaphore(MOST_WAITING)
        self._thread = ThreadPoolExecutor(1, name)

    def take(self, work: Callable[[], object]) -> bool:
        """Let it be done; return whether there was room."""
        if not self._room.acquire(blocking=False):
            return False
        self._thread.submit(self._do, work)
        return True

    def close(self, *, unfinished: bool) -> None:
        """Finish what was begun, and what waits if `unfinished`."""
        self._thread.shutdown(cancel_futures=not unfinished)

    def _do(self, work: Callable[[], object]) -> None:
        self._room.release()
        try:
            work()
        except Exception:  # a change without a record is worse than a noisy log
            structlog.get_logger().exception("trail_incomplete")


def _remember(kept: OrderedDict[str, _T], key: str, value: _T, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
