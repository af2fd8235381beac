"""Requests whose right answers are known, at little cost each: kept connections, one object a connection."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MOST_TOLD = 50
ANSWER_SECONDS = 6.0
REFUSED_PAUSE_SECONDS = 0.005
SEED = 1

UNAVAILABLE = frozenset({502, 504})
"""What a proxy says of an application or peer that isn't there."""
APPLICATION_UNAVAILABLE = 503
"""An application's own word for another that isn't there; a proxy's would be a decision."""


@dataclass(frozen=True)
class Ask:
    """A request's bytes and its right status."""

    name: str
    sent: bytes
    right: int


def ask(method: str, path: str, right: int) -> Ask:
    """A request without a body."""
    return Ask(f"{method} {path}", f"{method} {path} HTTP/1.1\r\nHost: quick.test\r\n\r\n".encode(), right)


@dataclass(frozen=True)
class Way:
    """Where requests go, and which."""

    name: str
    address: tuple[str, int]
    asks: Sequence[Ask]
    context: ssl.SSLContext | None = None


@dataclass
class Tally:
    """What came of requests."""

    right: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)
    unavailable: int = 0
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """What was neither the right answer nor a wrong one: whoever promises no failed request looks here."""
    last_right: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.by_status.total()

    def note(self, way: Way, asked: Ask, status: int, answer: bytes) -> None:
        self.by_status[status] += 1
        if status == asked.right:
            self.right[way.name] += 1
            self.last_right[way.name] = now = time.monotonic()
            waiting = self.waiting.pop(way.name, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(now)
            return
        away = status in UNAVAILABLE and (b'"unavailable"' in answer or b"x-policyd-decision" not in answer)
        if away or (status == APPLICATION_UNAVAILABLE and b"x-policyd-decision" not in answer):
            self.unavailable += 1
            self._fail(f"{way.name}: {asked.name}: {status}")
        elif len(self.wrong) < MOST_TOLD:
            self.wrong.append(f"{way.name}: {asked.name}: {answer.decode('latin-1')!r}, not {asked.right}")

    def unanswer(self, way: Way, why: str) -> None:
        self.unanswered += 1
        self._fail(f"{way.name}: {why}")

    def _fail(self, what: str) -> None:
        if len(self.failed) < MOST_TOLD:
            self.failed.append(what)

    async def next_right(self, way: str, seconds: float) -> float:
        """Wait for the next right answer of a way; the monotonic time at which it came."""
        loop = asyncio.get_running_loop()
        future = self.waiting.setdefault(way, loop.create_future())
        return await asyncio.wait_for(asyncio.shield(future), seconds)

    async def reaches(self, total: int) -> None:
        """Wait until there are so many answers."""
        while self.total < total:
            await asyncio.sleep(0.02)  # a count has no event of its own


class Conversation(asyncio.Protocol):
    """One connection that asks again as soon as it may; `over` is done when it has ended."""

    def __init__(self, way: Way, tally: Tally, pause: float, seed: int) -> None:
        self._way, self._tally, self._pause = way, tally, pause
        self._choose = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._asked: Ask | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._timer = None
        if self._transport.is_closing():
            return
        self._asked = self._choose.choice(self._way.asks)
        self._transport.write(self._asked.sent)
        self._timer = self._loop.call_later(ANSWER_SECONDS, self._late)

    def _late(self) -> None:
        self._timer = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._asked is None:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 : head.find(b"\r", at) if head.find(b"\r", at) > 0 else None])
        if len(self._buffer) < end + 4 + length:
            return
        answer, self._buffer = self._buffer, b""
        asked, self._asked = self._asked, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tally.note(self._way, asked, int(head[9:12]), answer)
        if b"connection: close" in head:
            self._transport.abort()
        elif self._pause:
            self._timer = self._loop.call_later(self._pause, self._ask)
        else:
            self._loop.call_soon(self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is not None:
            self._tally.unanswer(self._way, f"{self._asked.name}: it ended without an answer: {exc}")
        if not self.over.done():
            self.over.set_result(None)

    def end(self) -> None:
        """Stop asking; what is asked and not answered doesn't count."""
        self._asked = None
        self._transport.abort()


async def _client(way: Way, tally: Tally, pause: float, refused: float, seed: int) -> None:
    loop, conversation = asyncio.get_running_loop(), None
    name = "any.test" if way.context else None
    try:
        while True:
            seed += 1_000
            try:
                _, conversation = await loop.create_connection(
                    lambda: Conversation(way, tally, pause, seed),  # noqa: B023 — called at once
                    *way.address,
                    ssl=way.context,
                    server_hostname=name,
                )
                await conversation.over
            except (OSError, ssl.SSLError) as error:
                tally.unanswer(way, f"connecting: {error}")
                await asyncio.sleep(refused)  # who is refused at once doesn't hammer
    finally:
        if conversation is not None:
            conversation.end()


@asynccontextmanager
async def loading(
    ways: Sequence[Way],
    connections: int,
    pause: float = 0.0,
    tally: Tally | None = None,
    refused: float = REFUSED_PAUSE_SECONDS,
) -> AsyncIterator[Tally]:
    """Ask on so many connections of each way while the block lasts, `pause` seconds after each answer.

    `refused` is the pause after a connection that didn't come about.
    """
    tally = Tally() if tally is None else tally
    tasks = [
        asyncio.create_task(_client(way, tally, pause, refused, SEED + number * 97 + place))
        for place, way in enumerate(ways)
        for number in range(connections)
    ]
    try:
        yield tally
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
