"""What has been told of one kind, so that the next list can be told as a difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from kubeapi.told import Applied, Gone, ObjectName, Told, Undecodable
from kubeapi.wire import ObjectMeta, version_of

T = TypeVar("T")
Decode = Callable[[msgspec.Raw], T]
"""Reads an object from its JSON; raises ValueError (msgspec's errors are such) where it can't be read."""

_State = tuple[str, str]
"""uid and resourceVersion: what makes two readings of an object the same."""


class Disordered(Exception):  # noqa: N818 - says what happened
    """An event that isn't newer than what was told: only a new list tells what is true."""


class Held(Generic[T]):
    """Names and versions of what was told; the objects themselves are the listener's."""

    def __init__(self, decode: Decode[T]) -> None:
        self._decode = decode
        self._states: dict[ObjectName, _State] = {}
        self.version: int | None = None
        """As of when. None: nothing was told yet."""

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self._states)

    def applied(self, meta: ObjectMeta, body: msgspec.Raw) -> Told[T] | None:
        """Take an ADDED or MODIFIED; None where it was told. Raises Disordered, ApiError."""
        version = version_of(meta.resource_version)
        state = (meta.uid, meta.resource_version)
        if self._is_old(version):
            if self._states.get(meta.of) == state:
                return None
            raise Disordered(meta.of)
        self._states[meta.of] = state
        self.version = version
        return Told(version, (self._read(meta, body),))

    def deleted(self, meta: ObjectMeta) -> Told[T] | None:
        """Take a DELETED; None where it was told. Raises Disordered, ApiError."""
        version = version_of(meta.resource_version)
        if self._is_old(version):
            if meta.of not in self._states:
                return None
            raise Disordered(meta.of)
        self.version = version
        known = self._states.pop(meta.of, None)
        return Told(version, () if known is None else (Gone(meta.of, known[0]),))

    def marked(self, version: int) -> Told[T] | None:
        """Take a bookmark; None where it is older than what was told."""
        if self._is_old(version):
            return None
        self.version = version
        return Told(version, ())

    def _is_old(self, version: int) -> bool:
        return self.version is not None and version <= self.version

    def _read(self, meta: ObjectMeta, body: msgspec.Raw) -> Applied[T]:
        try:
            return Applied(meta.of, meta.uid, self._decode(body))
        except (ValueError, RecursionError) as error:
            return Applied(meta.of, meta.uid, Undecodable(bytes(body), str(error)))

    def listing(self) -> Listing[T]:
        """Begin to take a list."""
        return Listing(self)

    def differs(self, meta: ObjectMeta) -> bool:
        """Whether an object of a list isn't as it was told."""
        return self._states.get(meta.of) != (meta.uid, meta.resource_version)

    def replace(self, states: dict[ObjectName, _State], version: int) -> list[Gone]:
        """Hold from now on what a list says; return what it doesn't have any more."""
        gone = [Gone(name, state[0]) for name, state in sorted(self._states.items()) if name not in states]
        self._states, self.version = states, version
        return gone

    def read(self, meta: ObjectMeta, body: msgspec.Raw) -> Applied[T]:
        """Decode an object of a list."""
        return self._read(meta, body)


class Listing(Generic[T]):
    """A list while it comes. Nothing of it is told before it is whole; what was told isn't decoded again."""

    def __init__(self, held: Held[T]) -> None:
        self._held = held
        self._states: dict[ObjectName, _State] = {}
        self._changed: dict[ObjectName, Applied[T]] = {}
        self._same: dict[ObjectName, tuple[ObjectMeta, bytes]] = {}

    def add(self, meta: ObjectMeta, body: msgspec.Raw) -> None:
        """Take an object, or another state of it."""
        self._states[meta.of] = (meta.uid, meta.resource_version)
        if self._held.differs(meta):
            self._changed[meta.of] = self._held.read(meta, body)
        else:
            self._changed.pop(meta.of, None)

    def remove(self, meta: ObjectMeta) -> None:
        """Take the deletion of an object while the list still comes."""
        self._states.pop(meta.of, None)
        self._changed.pop(meta.of, None)

    def finish(self, version: int) -> Told[T]:
        """Return what differs from what was told, now that the list is whole."""
        gone = self._held.replace(self._states, version)
        return Told(version, (*gone, *self._changed.values()))
