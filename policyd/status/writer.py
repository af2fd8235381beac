"""Writes statuses that differ from what is wanted: coalesced, bounded, each namespace in its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from kubeapi.backoff import Backoff
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from policyd.audit.service import Allowance
from policyd.model.names import ObjectKey
from policyd.resources.instants import rfc3339
from policyd.status.conditions import Wanted
from policyd.status.fair_queue import FairQueue
from policyd.status.held import Entry, Held
from policyd.status.route_parents import CONTROLLER, parents_now
from policyd.status.route_parents import Entry as Parent

WRITES_PER_SECOND = 50.0
BURST_WRITES = 100.0
WRITERS = 4
"""Writes under way at the same time."""
MOST_WAITING_OF_ONE = 100_000
"""Objects of one namespace: more than etcd has of a kind in a cluster anybody has shown."""
REPAIR_SECONDS = 30.0
"""What somebody else writes over is written again no sooner: two that fight shouldn't heat a cluster."""
AGAIN_SECONDS = 1.0
"""After a conflict: the watch says by then what there is."""


@dataclass(frozen=True, slots=True)
class WantedParents:
    """What a route's `status.parents` is to have of ours."""

    uid: str
    generation: int
    parents: tuple[Parent, ...]


Want = Wanted | WantedParents


class StatusWriter:
    """Knows what is wanted, and makes it so while `is_leader` says that it may."""

    def __init__(self, client: Client, is_leader: Callable[[], bool]) -> None:
        self.written = 0
        self.failed = 0
        """Writes that didn't go well; most are tried again."""
        self.held = Held(client, self.look)
        self._client = client
        self._is_leader = is_leader
        self._wanted: dict[ObjectKey, Want] = {}
        self._last: dict[ObjectKey, tuple[float, Want]] = {}
        self._refused: dict[ObjectKey, Want] = {}
        self._later: dict[ObjectKey, asyncio.TimerHandle] = {}
        self._queue: FairQueue[ObjectKey] = FairQueue(MOST_WAITING_OF_ONE)
        self._allowance = Allowance(WRITES_PER_SECOND, BURST_WRITES)
        self._backoff = Backoff()

    @property
    def waiting(self) -> int:
        """How many objects are to be looked at."""
        return len(self._queue) + len(self._later)

    def want(self, wanted: Mapping[ObjectKey, Want]) -> None:
        """Take over what all objects' statuses are to say; what isn't there any more is forgotten."""
        before, self._wanted = self._wanted, dict(wanted)
        for key, each in wanted.items():
            if before.get(key) != each:
                self._offer(key)
        for gone in before.keys() - wanted.keys():
            for known in (self._last, self._refused):
                known.pop(gone, None)

    def look(self, key: ObjectKey) -> None:
        """Look whether an object's status is as wanted; one that somebody wrote over waits a while."""
        if key not in self._wanted or self._difference(key, rfc3339(datetime.now(UTC))) is None:
            return
        at, last = self._last.get(key, (float("-inf"), None))
        wait = at + REPAIR_SECONDS - time.monotonic()
        if last == self._wanted[key] and wait > 0:
            self._offer_later(key, wait)
        else:
            self._offer(key)

    def _offer(self, key: ObjectKey) -> None:
        self.held.missing((key.group, key.kind))
        self._queue.put(key.namespace, key)

    def _offer_later(self, key: ObjectKey, seconds: float) -> None:
        def due() -> None:
            del self._later[key]
            self._offer(key)

        if key not in self._later:
            self._later[key] = asyncio.get_running_loop().call_later(seconds, due)

    async def run(self) -> None:
        """Follow statuses and write for ever."""
        work = [self.held.run(), *(self._write_for_ever() for _ in range(WRITERS))]
        try:
            async with asyncio.TaskGroup() as group:
                for each in work:
                    group.create_task(each)
        finally:
            for timer in self._later.values():
                timer.cancel()
            self._later.clear()

    async def _write_for_ever(self) -> None:
        await self.held.first()
        while True:
            key = await self._queue.get()
            body = self._difference(key, rfc3339(datetime.now(UTC)))
            path = self.held.paths.get((key.group, key.kind))
            if body is None or path is None:
                continue
            await asyncio.sleep(self._allowance.spend(1))
            if self._is_leader():
                await self._write(key, path)

    def _difference(self, key: ObjectKey, now: str) -> dict[str, Any] | None:
        """Return what would have to be written; None where all is well, or nothing can be done now."""
        wanted, entry = self._wanted.get(key), self.held.get(key)
        if wanted is None or entry is None or entry.uid != wanted.uid or self._refused.get(key) == wanted:
            return None
        if isinstance(wanted, WantedParents):
            return _parents_body(wanted, entry, now)
        status = wanted.status(entry.status, now)
        if status == entry.status:
            return None
        # With its uid: what was deleted and made again meanwhile is another object.
        return {"metadata": {"name": key.name, "uid": wanted.uid}, "status": msgspec.to_builtins(status)}

    async def _write(self, key: ObjectKey, path: ResourcePath) -> None:
        wanted, body = self._wanted.get(key), self._difference(key, rfc3339(datetime.now(UTC)))
        if body is None or wanted is None:
            return
        place = ResourcePath(path.group, path.version, path.plural, key.namespace or None)
        body |= {"apiVersion": f"{path.group}/{path.version}", "kind": key.kind}
        try:
            if isinstance(wanted, WantedParents):
                answer = await self._client.merge(place, key.name, body, subresource="status")
            else:
                answer = await self._client.apply(place, key.name, body, subresource="status")
        except (ApiError, AccessError) as error:
            await self._not_written(key, wanted, error)
        else:
            self.written += 1
            self._backoff.reset()
            self._last[key] = (time.monotonic(), wanted)
            self.held.took(key, answer.body)

    async def _not_written(self, key: ObjectKey, wanted: Want, error: ApiError | AccessError) -> None:
        if isinstance(error, ApiError) and error.not_found:
            return  # deleted meanwhile
        self.failed += 1
        if isinstance(error, ApiError) and error.conflict:
            self._offer_later(key, AGAIN_SECONDS)
            return
        structlog.get_logger().warning("status_not_written", object=key.text, problem=str(error))
        if isinstance(error, ApiError) and error.status in {400, 422}:
            self._refused[key] = wanted  # nothing but another status helps
            return
        self._offer(key)
        await asyncio.sleep(self._backoff.next(error.retry_after if isinstance(error, ApiError) else None))


def _parents_body(wanted: WantedParents, entry: Entry, now: str) -> dict[str, Any] | None:
    there = list(entry.parents)
    ours = any(each.get("controllerName") == CONTROLLER for each in there)
    if not wanted.parents and not ours:
        return None
    parents = parents_now(wanted.parents, there, wanted.generation, now)
    if parents == there:
        return None
    return {"metadata": {"resourceVersion": str(entry.version)}, "status": {"parents": parents}}
