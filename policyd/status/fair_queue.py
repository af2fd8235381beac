"""What waits to be written, by namespace: each gets its turn, so that one can't keep the others waiting."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from policyd.turns import Turns

K = TypeVar("K")


class FairQueue(Generic[K]):
    """Keys, each once. What waits of a namespace is bounded; namespaces take turns."""

    def __init__(self, most_of_one: int) -> None:
        """`most_of_one` keys of a namespace may wait."""
        self.dropped = 0
        """Keys that found no room."""
        self._most_of_one = most_of_one
        self._turns: Turns[K] = Turns()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._turns)

    def put(self, namespace: str, key: K) -> bool:
        """Let a key wait; return whether it does. One that waits already keeps its place."""
        if (namespace, key) not in self._turns and self._turns.waiting_of(namespace) >= self._most_of_one:
            self.dropped += 1
            return False
        self._turns.add(namespace, key)
        self._some.set()
        return True

    async def get(self) -> K:
        """Wait for the next key, of the namespace whose turn it is."""
        while not self._turns:
            self._some.clear()
            await self._some.wait()
        return self._turns.next()
