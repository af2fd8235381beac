"""What statuses there are: read back from the API server, so that only what differs is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from kubeapi.backoff import Backoff
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Gone, Told, Undecodable
from policyd.model.names import GATEWAY, POLICYD, ObjectKey
from policyd.resources.crd import CRDS
from policyd.resources.registry import KINDS, Kind
from policyd.sources.kubernetes.served import KindName, served
from policyd.status.conditions import Status

OURS = frozenset((POLICYD, crd.kind) for crd in CRDS)
"""Kinds whose whole status is ours."""
ROUTES = frozenset({(GATEWAY, "HTTPRoute"), (GATEWAY, "GRPCRoute")})
"""Kinds in whose status each controller has entries."""
ASK_SECONDS = 30.0
"""How often it is asked which of these kinds are served."""
LEAST_ASK_SECONDS = 2.0
FIRST_LIST_SECONDS = 30.0
"""How long writing waits for the first lists; a kind that can't be listed mustn't keep the others waiting."""


class _Meta(msgspec.Struct, rename="camel"):
    uid: str = ""
    resource_version: str = "0"


class _Object(msgspec.Struct):
    metadata: _Meta
    status: msgspec.Raw = msgspec.Raw()


class _RouteStatus(msgspec.Struct):
    parents: list[dict[str, Any]] = []


_DECODER = msgspec.json.Decoder(_Object)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object's status, as of a resource version. `parents` are a route's."""

    uid: str
    version: int
    status: Status = field(default_factory=Status)
    parents: tuple[Mapping[str, Any], ...] = ()


def entry_of(body: bytes) -> Entry:
    """Read an object. A status of another form than ours counts as none. Raises ValueError."""
    found = _DECODER.decode(body)
    version = int(found.metadata.resource_version)
    if not bytes(found.status):
        return Entry(found.metadata.uid, version)
    status, parents = Status(), tuple[Mapping[str, Any], ...]()
    with contextlib.suppress(msgspec.DecodeError, UnicodeError):
        status = msgspec.json.decode(found.status, type=Status).ours
    with contextlib.suppress(msgspec.DecodeError, UnicodeError):
        parents = tuple(msgspec.json.decode(found.status, type=_RouteStatus).parents)
    return Entry(found.metadata.uid, version, status, parents)


class Held:
    """Follows the kinds that have a status while this replica leads."""

    def __init__(self, client: Client, changed: Callable[[ObjectKey], None]) -> None:
        """Call `changed` for each object whose status may be another now."""
        self.paths: dict[KindName, ResourcePath] = {}
        self._client = client
        self._changed = changed
        self._entries: dict[ObjectKey, Entry] = {}
        self._running: dict[KindName, asyncio.Task[None]] = {}
        self._ask = asyncio.Event()
        self._first = asyncio.Event()

    def get(self, key: ObjectKey) -> Entry | None:
        """Return what is known of an object's status."""
        return self._entries.get(key)

    def took(self, key: ObjectKey, body: bytes) -> None:
        """Take over what the API server answered to a write."""
        with contextlib.suppress(ValueError):  # the watch says it too
            self._take(key, entry_of(body))

    def missing(self, kind: KindName) -> None:
        """Ask soon whether a kind is served: there are objects of it."""
        if kind not in self.paths:
            self._ask.set()

    async def first(self) -> None:
        """Wait for the first lists, or until it is clear that some don't come soon."""
        await self._first.wait()

    async def run(self) -> None:
        """Follow what is served, for ever."""
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._follow()
                except (ApiError, AccessError) as error:
                    structlog.get_logger().warning("statuses_not_asked", problem=str(error))
                    await asyncio.sleep(backoff.next())
                    continue
                backoff.reset()
                await asyncio.sleep(LEAST_ASK_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ASK_SECONDS):
                        await self._ask.wait()
                self._ask.clear()
        finally:
            for task in self._running.values():
                task.cancel()

    async def _follow(self) -> None:
        """Begin to follow what is served now and isn't followed. Raises ApiError, AccessError."""
        kinds: list[Kind] = [KINDS[name] for name in sorted(OURS | ROUTES)]
        found = await served(self._client, kinds)
        lists = []
        for name, path in found.items():
            task = self._running.get(name)
            if self.paths.get(name) == path and task is not None and not task.done():
                continue
            if task is not None:
                task.cancel()
            self.paths[name] = path
            reflector: Reflector[Entry] = Reflector(self._client, path, entry_of, self._teller(name))
            self._running[name] = asyncio.create_task(reflector.run())
            lists.append(reflector.listed)
        if not self._first.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LIST_SECONDS):
                    await asyncio.gather(*(listed.wait() for listed in lists))
            self._first.set()

    def _teller(self, kind: KindName) -> Callable[[Told[Entry]], None]:
        def tell(told: Told[Entry]) -> None:
            for change in told.changes:
                key = ObjectKey(*kind, change.name.namespace, change.name.name)
                if isinstance(change, Gone):
                    self._entries.pop(key, None)
                elif not isinstance(change.object, Undecodable):
                    self._take(key, change.object)

        return tell

    def _take(self, key: ObjectKey, entry: Entry) -> None:
        """Take over an entry that is newer than what is known: answers and watches overtake one another."""
        before = self._entries.get(key)
        if before is not None and before.uid == entry.uid and before.version >= entry.version:
            return
        self._entries[key] = entry
        self._changed(key)
