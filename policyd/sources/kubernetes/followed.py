"""One kind of a cluster while it is followed, or isn't served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Gone, Told
from policyd.model.names import ObjectKey
from policyd.resources.registry import Kind
from policyd.sources.events import AnyObject
from policyd.sources.kubernetes.decoders import Decoders
from policyd.sources.kubernetes.quarantine import object_of

BEHIND_SECONDS = 5.0
"""A kind that isn't followed for this long is said to be behind; a watch that ends is nothing to speak of."""

Take = Callable[[ObjectKey, AnyObject | None], None]
"""Take over what an object is now; None: it is gone."""


class Followed:
    """Turns what a reflector tells into objects. `path` is None where the cluster doesn't serve the kind."""

    def __init__(self, kind: Kind, decoders: Decoders, take: Take, told: Callable[[], None]) -> None:
        """`told` is called when something was told, be it only how far it goes."""
        self.kind = kind
        self.path: ResourcePath | None = None
        self.version = 0
        """Everything up to there has been taken over; 0: nothing is known."""
        self.absent = 0
        """How often in a row the kind was found not to be served, though it is followed."""
        self._decoders = decoders
        self._take = take
        self._told = told
        self._keys: set[ObjectKey] = set()
        self._reflector: Reflector[AnyObject] | None = None
        self._running: asyncio.Task[None] | None = None
        self._afresh = False

    @property
    def text(self) -> str:
        """`Server.policyd.dev`: the kind's name in a basis and in findings."""
        return f"{self.kind.name}.{self.kind.group}" if self.kind.group else self.kind.name

    @property
    def is_empty(self) -> bool:
        """Whether the kind has no objects."""
        return not self._keys

    def reached(self, otherwise: int) -> int:
        """Return up to which version everything is taken over; before a first list, at least `otherwise`."""
        listed = self._reflector is not None and not self._afresh
        return self.version if listed else max(self.version, otherwise)

    @property
    def behind(self) -> str | None:
        """Why it isn't known whether anything changed; None while all is well."""
        reflector = self._reflector
        if reflector is None or reflector.problem is None or reflector.failing_since is None:
            return None
        failing = time.monotonic() - reflector.failing_since
        return str(reflector.problem) if failing >= BEHIND_SECONDS else None

    def follow(self, client: Client, path: ResourcePath) -> asyncio.Task[None]:
        """Begin to follow the kind at a path, or at another than before. Return the task that does."""
        self.stop()
        self.path = path
        self._afresh = True
        decode = self._decoders.of(self.kind, path.version)
        self._reflector = Reflector(client, path, decode, self._tell)
        self._running = asyncio.create_task(self._reflector.run())
        return self._running

    def stop(self) -> None:
        """Follow it no more. What was taken over stays."""
        if self._running is not None:
            self._running.cancel()
        self._running = self._reflector = self.path = None

    def forget(self) -> None:
        """Take it that the kind isn't served any more, and that none of its objects is there."""
        self.stop()
        for key in self._keys:
            self._take(key, None)
        self._keys.clear()
        self._told()

    def hasten(self, version: int = 0) -> None:
        """Ask the API server soon."""
        if self._reflector is not None:
            self._reflector.hasten(version)

    async def listed(self) -> None:
        """Wait for the first list."""
        if self._reflector is not None:
            await self._reflector.listed.wait()

    def _tell(self, told: Told[AnyObject]) -> None:
        version = "" if self.path is None else self.path.version
        before = set(self._keys) if self._afresh else set()
        for change in told.changes:
            key = ObjectKey(self.kind.group, self.kind.name, change.name.namespace, change.name.name)
            before.discard(key)
            if isinstance(change, Gone):
                self._keys.discard(key)
                self._take(key, None)
                continue
            self._keys.add(key)
            self._take(key, object_of(key, version, change))
        for key in before:  # of another version of the API, and not in this one's first list
            self._keys.discard(key)
            self._take(key, None)
        self._afresh = False
        self.version = told.version
        self._told()
