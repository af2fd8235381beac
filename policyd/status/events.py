"""Events beside what they concern: one a minute for each cause. Nothing waits for them.

`events.k8s.io/v1` lets only an Event's `series` change, so the note is that of the first time.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from kubeapi.backoff import Backoff
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.lease import micro_time
from kubeapi.path import ResourcePath
from policyd.audit.service import Allowance
from policyd.status.conditions import cut
from policyd.status.fair_queue import FairQueue
from policyd.status.route_parents import CONTROLLER

CAUSE_SECONDS = 60.0
"""An Event of a cause is written once in this time; what happens in between is counted in it."""
FORGET_SECONDS = 900.0
"""A cause that is silent for so long begins another Event, with a note of its own."""
MOST_CAUSES = 4096
MOST_CAUSES_OF_ONE = 64
"""Causes of one namespace that are remembered: each may bring about a write a minute."""
WRITES_PER_SECOND = 10.0
BURST_WRITES = 50.0
MOST_ATTEMPTS = 3
SWEEP_SECONDS = 5.0
MOST_NOTE = 1024
"""Bytes; the API server takes no more. Notes are cut off by characters, and are ASCII but for names."""
_DEFAULT_NAMESPACE = "default"
"""Where the API wants Events about cluster-scoped objects."""

Cause = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """What an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def as_json(self) -> dict[str, str]:
        """Return a `v1.ObjectReference`, without what isn't known."""
        told = {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell. `cause` is what counts as the same thing happening again.

    `lasting` says that the Event has one name whoever writes it: replicas that follow one another then don't
    tell of it twice.
    """

    regarding: ObjectReference
    cause: Cause
    reason: str
    action: str
    note: str
    related: ObjectReference | None = None
    lasting: bool = False

    @property
    def namespace(self) -> str:
        return self.regarding.namespace or _DEFAULT_NAMESPACE


@dataclass(slots=True)
class _Series:
    happening: Happening
    name: str
    first: datetime
    count: int = 1
    told: int = 0
    """How much of `count` the Event says."""
    last: datetime = field(default_factory=lambda: datetime.now(UTC))
    seen_at: float = 0.0
    written_at: float = float("-inf")
    attempts: int = 0


class Recorder:
    """Takes what happens, and writes it when it may. `record` never blocks and never raises."""

    def __init__(self, client: Client, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`instance` names this replica in its Events."""
        self.written = 0
        self.failed = 0
        """Writes that were given up."""
        self.dropped = 0
        """What happened and found no room; what is only counted in a series isn't dropped."""
        self._client = client
        self._instance = instance
        self._clock = clock
        self._series: OrderedDict[Cause, _Series] = OrderedDict()
        self._of_one: Counter[str] = Counter()
        self._queue: FairQueue[Cause] = FairQueue(MOST_CAUSES_OF_ONE)
        self._allowance = Allowance(WRITES_PER_SECOND, BURST_WRITES, clock)
        self._backoff = Backoff()

    def record(self, happening: Happening) -> None:
        """Take note of something. The first of a cause is told at once, more of it a minute later."""
        series = self._series.get(happening.cause)
        if series is None:
            series = self._begin(happening)
            if series is None:
                self.dropped += 1
                return
        else:
            series.count += 1
            series.last = datetime.now(UTC)
        series.seen_at = self._clock()
        self._series.move_to_end(happening.cause)
        self._offer(happening.cause, series)

    def _begin(self, happening: Happening) -> _Series | None:
        namespace = happening.namespace
        if self._of_one[namespace] >= MOST_CAUSES_OF_ONE or len(self._series) >= MOST_CAUSES:
            return None
        self._of_one[namespace] += 1
        first = datetime.now(UTC)
        series = _Series(happening, _name(happening, first), first, last=first)
        self._series[happening.cause] = series
        return series

    def _offer(self, cause: Cause, series: _Series) -> None:
        if series.told < series.count and self._clock() - series.written_at >= CAUSE_SECONDS:
            self._queue.put(series.happening.namespace, cause)

    async def run(self) -> None:
        """Write for ever."""
        sweeping = asyncio.create_task(self._sweep())
        try:
            while True:
                cause = await self._queue.get()
                series = self._series.get(cause)
                if series is not None:
                    await asyncio.sleep(self._allowance.spend(1))
                    await self._tell(cause, series)
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        """Tell what was only counted, and forget what is over."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for cause, series in list(self._series.items()):
                self._offer(cause, series)
                if series.told == series.count and self._clock() - series.seen_at >= FORGET_SECONDS:
                    self._forget(cause)

    def _forget(self, cause: Cause) -> None:
        series = self._series.pop(cause, None)
        if series is not None:
            self._of_one[series.happening.namespace] -= 1
            self._of_one += Counter()  # only what is more than nothing stays

    async def _tell(self, cause: Cause, series: _Series) -> None:
        count = series.count
        try:
            await self._write(series, count)
        except (ApiError, AccessError) as error:
            await self._not_told(cause, series, error)
        else:
            self.written += 1
            series.told, series.attempts = count, 0
            series.written_at = self._clock()
            self._backoff.reset()

    async def _not_told(self, cause: Cause, series: _Series, error: ApiError | AccessError) -> None:
        """Try again where that may help, a little later; else give it up."""
        series.attempts += 1
        refused = isinstance(error, ApiError) and error.status in {400, 403, 404, 409, 422}
        if refused or series.attempts >= MOST_ATTEMPTS:
            self.failed += 1
            structlog.get_logger().warning("event_not_written", problem=str(error), event=series.name)
            self._forget(cause)
            if refused:
                return
        else:
            self._queue.put(series.happening.namespace, cause)
        await asyncio.sleep(self._backoff.next(error.retry_after if isinstance(error, ApiError) else None))

    async def _write(self, series: _Series, count: int) -> None:
        """Write a new Event, or how often it has happened by now. Raises ApiError, AccessError."""
        path = ResourcePath("events.k8s.io", "v1", "events", series.happening.namespace)
        if series.told:
            body = {"series": {"count": count, "lastObservedTime": micro_time(series.last)}}
            try:
                await self._client.merge(path, series.name, body)
            except ApiError as error:
                if not error.not_found:
                    raise
                await self._client.create(path, self._event(series, count))  # Events end by themselves
            return
        try:
            await self._client.create(path, self._event(series, count))
        except ApiError as error:
            if not (error.conflict and series.happening.lasting):
                raise  # else another replica has told of it

    def _event(self, series: _Series, count: int) -> dict[str, Any]:
        happening = series.happening
        body: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": series.name, "namespace": happening.namespace},
            "eventTime": micro_time(series.first),
            "reportingController": CONTROLLER,
            "reportingInstance": cut(self._instance, 128),
            "action": happening.action,
            "reason": happening.reason,
            "regarding": happening.regarding.as_json(),
            "note": _note(happening.note),
            "type": "Warning",
        }
        if happening.related is not None:
            body["related"] = happening.related.as_json()
        if count > 1:
            body["series"] = {"count": count, "lastObservedTime": micro_time(series.last)}
        return body


def _name(happening: Happening, at: datetime) -> str:
    """Return an Event's name: `object.hash`, by its cause alone where that is to last."""
    parts = happening.cause if happening.lasting else (*happening.cause, str(at.timestamp()))
    suffix = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"{happening.regarding.name[:230].rstrip('.-')}.{suffix}"


def _note(text: str) -> str:
    """Return a note of as many bytes as the API takes."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= MOST_NOTE:
        return text
    return f"{encoded[: MOST_NOTE - 3].decode('utf-8', 'ignore')}…"
