"""Who is connected, and when they are told: at once, unless a change can only grant more (design §8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from policyd.distribute.grants import only_grants
from policyd.distribute.refusals import exhausted
from policyd.sources.events import Batch

GRANTS_WAIT_SECONDS = 0.1
"""Grants that follow a publication more closely wait until it has passed; the first never waits."""
MOST_STREAMS_PER_POD = 4
MOST_STREAMS = 20_000


class Listener(Protocol):
    """Somebody to wake. `pod_key` tells the streams of one pod from those of others."""

    pod_key: str

    def wake(self) -> None:
        """Look at the newest state, soon. The newest is all that counts, so nothing queues up."""


class Publisher:
    """The connected streams. Waking is all it does: each stream reads the newest state by itself."""

    def __init__(self) -> None:
        self._listeners: dict[int, Listener] = {}
        self._of_pod: Counter[str] = Counter()
        self._pending: asyncio.TimerHandle | None = None
        self._last = float("-inf")

    @property
    def listeners(self) -> Iterable[Listener]:
        """Everybody connected now."""
        return tuple(self._listeners.values())

    @property
    def is_settled(self) -> bool:
        """Whether everything that was announced has been published."""
        return self._pending is None

    def enrol(self, listener: Listener) -> None:
        """Wake the listener until it leaves. Raises GRPCError where there are too many already."""
        same = self._of_pod[listener.pod_key]
        if same >= MOST_STREAMS_PER_POD or len(self._listeners) >= MOST_STREAMS:
            raise exhausted("TOO_MANY_STREAMS", f"{same} of this pod, {len(self._listeners)} in all")
        self._listeners[id(listener)] = listener
        self._of_pod[listener.pod_key] += 1

    def leave(self, listener: Listener) -> None:
        """Wake it no more."""
        del self._listeners[id(listener)]
        self._of_pod[listener.pod_key] -= 1
        if not self._of_pod[listener.pod_key]:
            del self._of_pod[listener.pod_key]

    def announce(self, batch: Batch) -> None:
        """Tell of a batch that the world has taken over and tables were compiled for."""
        loop = asyncio.get_running_loop()
        due = self._last + GRANTS_WAIT_SECONDS
        if only_grants(batch) and loop.time() < due:
            if self._pending is None:
                self._pending = loop.call_at(due, self.publish)
            return
        self.publish()

    def publish(self) -> None:
        """Wake everybody now; whatever waited goes with it."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._last = asyncio.get_running_loop().time()
        for listener in self.listeners:
            listener.wake()
