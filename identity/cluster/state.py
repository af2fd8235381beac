"""All objects of a kind as the API server tells them, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import msgspec

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Applied, ObjectName, Told, Undecodable

T = TypeVar("T")


class State(Generic[T]):
    """Follows a kind: `run` until cancelled. What can't be decoded isn't among `objects`."""

    def __init__(
        self,
        client: Client,
        path: ResourcePath,
        kind: type[T],
        select: Mapping[str, str] | None = None,
        changed: Callable[[ObjectName], None] | None = None,
    ) -> None:
        """`kind` is a msgspec struct of the fields that are read; `changed` hears of each change."""
        self._changed = changed
        self.reflector: Reflector[T] = Reflector(
            client, path, msgspec.json.Decoder(kind).decode, self.tell, select
        )
        self.objects: dict[ObjectName, T] = {}
        self.unreadable: set[ObjectName] = set()
        self._uids: dict[ObjectName, str] = {}
        # Held by those that wait: a name that is never told of leaves nothing behind.
        self._awaited: WeakValueDictionary[ObjectName, asyncio.Event] = WeakValueDictionary()

    async def run(self) -> None:
        await self.reflector.run()

    def tell(self, told: Told[T]) -> None:
        """Take over what changed."""
        for change in told.changes:
            self._forget(change.name)
            match change:
                case Applied(name, uid, found) if not isinstance(found, Undecodable):
                    self.objects[name] = found
                    self._uids[name] = uid
                case Applied(name):
                    self.unreadable.add(name)
                case _:
                    pass
            event = self._awaited.pop(change.name, None)
            if event is not None:
                event.set()
            if self._changed is not None:
                self._changed(change.name)

    def get(self, name: ObjectName, uid: str) -> T | None:
        """Return the object of this name and uid."""
        return self.objects.get(name) if self._uids.get(name) == uid else None

    async def find(self, name: ObjectName, uid: str, seconds: float) -> T | None:
        """Return the object of this name and uid, waiting a moment for one that wasn't told of yet."""
        try:
            async with asyncio.timeout(seconds):
                while (found := self.get(name, uid)) is None:
                    event = self._awaited.setdefault(name, asyncio.Event())
                    await event.wait()
        except TimeoutError:
            return None
        return found

    def _forget(self, name: ObjectName) -> None:
        self.objects.pop(name, None)
        self._uids.pop(name, None)
        self.unreadable.discard(name)
