"""What waits to be written, by namespace: each gets its turn, so that one can't keep the others waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")


class FairQueue(Generic[K]):
    """Keys, each once. What waits of a namespace is bounded; namespaces take turns."""

    def __init__(self, most_of_one: int) -> None:
        """`most_of_one` keys of a namespace may wait."""
        self.dropped = 0
        """Keys that found no room."""
        self._most_of_one = most_of_one
        self._waiting: OrderedDict[str, OrderedDict[K, None]] = OrderedDict()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._waiting.values())

    def put(self, namespace: str, key: K) -> bool:
        """Let a key wait; return whether it does. One that waits already keeps its place."""
        keys = self._waiting.setdefault(namespace, OrderedDict())
        if key not in keys and len(keys) >= self._most_of_one:
            self.dropped += 1
            return False
        keys[key] = None
        self._some.set()
        return True

    async def get(self) -> K:
        """Wait for the next key, of the namespace whose turn it is."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        namespace, keys = self._waiting.popitem(last=False)
        key, _ = keys.popitem(last=False)
        if keys:
            self._waiting[namespace] = keys  # to the end of the line
        return key
