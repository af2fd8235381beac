"""policyd's one port: the fan-out in Rust, driven from the event loop (docs/decisions/0009-fan-out.md)."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Mapping
from typing import Literal, Protocol

import structlog

from policyd.engine import Delivered, Ended, Fanout, Greeted, Nacked, Opened
from servicekit.server import ListenError, listen_problem

EVENTS_AT_ONCE = 128
"""Events that are taken before the loop does something else."""
MOST_CONNECTIONS = 24_000
"""Two for each of ten thousand proxies, and what restarts leave behind."""
SPARE_FILES = 512
"""Open files that connections never take: the store's, the folders'."""
DRAIN_SECONDS = 2.0

Service = Literal["policy", "audit"]


class StreamService(Protocol):
    """What streams of one kind come to."""

    def start(self) -> None:
        """Begin with what happens by itself."""

    def close(self) -> None:
        """End that."""

    def opened(self, event: Opened) -> None:
        """Take a new stream."""

    def on_event(self, event: Greeted | Nacked | Delivered | Ended) -> None:
        """Take what happened on a stream; it may be none of ours any more."""


class StreamPort:
    """Hands what happens to the services, and ends with them."""

    def __init__(self, fanout: Fanout, services: Mapping[Service, StreamService]) -> None:
        self._fanout = fanout
        self._services = services
        self._serving: dict[int, StreamService] = {}

    async def listen(self, host: str, port: int) -> str:
        """Bind; `host:port` as bound (port 0: any). Raises ListenError."""
        try:
            bound = self._fanout.listen(host, port, most_connections())
        except OSError as error:
            raise ListenError(listen_problem(host, port, error)) from error
        asyncio.get_running_loop().add_reader(self._fanout.fileno(), self._take)
        for service in self._services.values():
            service.start()
        return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        """End all streams, then the threads that served them."""
        asyncio.get_running_loop().remove_reader(self._fanout.fileno())
        for service in self._services.values():
            service.close()
        await asyncio.to_thread(self._fanout.close, DRAIN_SECONDS)

    def _take(self) -> None:
        for event in self._fanout.events(EVENTS_AT_ONCE):
            try:
                self._hand(event)
            except Exception:  # the others' events must not be lost with this one's
                structlog.get_logger().exception("stream_event_failed")
                self._fanout.end(event.stream, 13, "INTERNAL: policyd's log says more")

    def _hand(self, event: Opened | Greeted | Nacked | Delivered | Ended) -> None:
        if isinstance(event, Opened):
            service = self._serving[event.stream] = self._services[event.service]
            service.opened(event)
            return
        found = self._serving.get(event.stream)
        if isinstance(event, Ended):
            self._serving.pop(event.stream, None)
        if found is not None:
            found.on_event(event)


def most_connections() -> int:
    """Return how many connections the machine lets us have, at most as many as we want; raise the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft - SPARE_FILES)
    return max(most, 1)
