"""What was made from facts, kept until one of these facts is touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

from policyd.index.affected import Fact
from policyd.index.view import View
from policyd.index.world import World

T = TypeVar("T")
Key = tuple[object, ...]
"""The first part says what it is, the others which one."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: object
    facts: frozenset[Fact]


class Memo:
    """Values by key, each with the facts that its maker asked its view for, other values' included."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entries: dict[Key, _Entry] = {}
        self._made_from: dict[Fact, set[Key]] = defaultdict(set)

    def get(self, view: View, key: Key, make: Callable[[View], T]) -> T:
        """Return the value of that key, made now if it isn't there; `view` takes over its facts."""
        entry = self._entries.get(key)
        if entry is None:
            inner = View(self._world)
            entry = _Entry(make(inner), frozenset(inner.facts))
            self._entries[key] = entry
            for fact in entry.facts:
                self._made_from[fact].add(key)
        view.note(entry.facts)
        return cast(T, entry.value)

    def forget(self, facts: Iterable[Fact]) -> set[Key]:
        """Drop every value that was made from one of the facts; return their keys."""
        stale: set[Key] = set()
        for fact in facts:
            stale |= self._made_from.get(fact, set())
        for key in stale:
            self.drop(key)
        return stale

    def drop(self, key: Key) -> None:
        """Drop one value, if it is there."""
        entry = self._entries.pop(key, None)
        for fact in () if entry is None else entry.facts:
            made = self._made_from[fact]
            made.discard(key)
            if not made:
                del self._made_from[fact]
