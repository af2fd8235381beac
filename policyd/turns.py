"""Whose turn it is: each namespace's, one after the other, however much of one waits (promise P-8)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")

SLICE_SECONDS = 0.004
"""How long work for many has the loop before it does something else."""


class Turns(Generic[K]):
    """Keys that wait, each once, by their namespaces."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[K, None]] = OrderedDict()
        """The namespace whose turn is next comes first; of its keys, the one that has waited longest."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __contains__(self, of: tuple[str, K]) -> bool:
        namespace, key = of
        return key in self._waiting.get(namespace, ())

    def waiting_of(self, namespace: str) -> int:
        """How many of a namespace wait."""
        return len(self._waiting.get(namespace, ()))

    def add(self, namespace: str, key: K) -> None:
        """Let a key have a turn; one that waits for it keeps its place."""
        self._waiting.setdefault(namespace, OrderedDict())[key] = None

    def discard(self, namespace: str, key: K) -> None:
        """Let it have none."""
        keys = self._waiting.get(namespace)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self._waiting[namespace]

    def next(self) -> K:
        """Take out the key whose turn it is. Raises KeyError where none waits."""
        namespace, keys = self._waiting.popitem(last=False)
        key, _ = keys.popitem(last=False)
        if keys:
            self._waiting[namespace] = keys  # to the end of the line
        return key
