"""The gRPC service: a proxy's chain arrives, and is acknowledged when the disk has it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from policyd.audit.chain import CHAIN_BYTES, HASH_BYTES, Head, Link
from policyd.audit.record import MOST_RECORD_BYTES, Writer
from policyd.audit.store import Store
from policyd.errors import ChainRefused, StoreUnavailable
from policyd_api.v1 import audit_pb2 as wire

HELLO_SECONDS = 10.0
SLOW_SECONDS = 30.0
MOST_STREAMS_PER_WRITER = 4
MOST_STREAMS = 20_000
MOST_AT_ONCE = 128
"""Messages that are worked on at the same time; the others wait in their connections."""
RECORDS_PER_SECOND = 2_000.0
"""What one writer may deliver; faster ones are read more slowly, and spool meanwhile."""
BURST_RECORDS = 20_000.0


class Wire(Protocol):
    """A stream, whoever carries it. Raises StreamTerminatedError where the peer is gone."""

    async def send_initial_metadata(self) -> None:
        """Say that the peer is listened to."""

    async def recv_message(self) -> wire.AuditMessage | None:
        """Wait for the next message; None at the end."""

    async def send_message(self, message: wire.AuditAck) -> None:
        """Answer."""


Identify = Callable[[Any], Writer]
Observe = Callable[[Writer, Sequence[bytes]], None]
"""Told which records of a writer are kept now; short, and raises nothing."""


class AuditStreamService:
    """Accepts chains. One message of a stream is worked on at a time; a slow disk slows the sender."""

    def __init__(self, store: Store, identify: Identify) -> None:
        """`identify` tells who a stream's peer is; it raises GRPCError."""
        self.refused: Counter[str] = Counter()
        """Streams that were ended, by code."""
        self.observe: Observe = lambda _writer, _records: None
        self._store = store
        self._identify = identify
        self._streams: Counter[str] = Counter()
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def deliver(self, stream: Wire) -> None:
        """Serve one writer until either end ends it."""
        try:
            writer = self._identify(stream)
            with self._enrolled(writer):
                await stream.send_initial_metadata()
                await _Delivery(stream, writer, self._store, self._at_once).run(self.observe)
        except GRPCError as error:
            code = str(error.message).partition(":")[0]
            self.refused[code] += 1
            log = structlog.get_logger()
            log.warning("audit_stream_ended", status=error.status.name, problem=error.message)
            raise
        except (StreamTerminatedError, ConnectionError):
            pass

    @contextmanager
    def _enrolled(self, writer: Writer) -> Iterator[None]:
        key = writer.pod_uid or writer.identity
        if self._streams[key] >= MOST_STREAMS_PER_WRITER or self._streams.total() >= MOST_STREAMS:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS: of this pod, or in all")
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]


class _Delivery:
    """One stream, from its Hello to its end."""

    def __init__(self, stream: Wire, writer: Writer, store: Store, at_once: asyncio.Semaphore) -> None:
        self._stream = stream
        self._writer = writer
        self._store = store
        self._at_once = at_once
        self._allowance = Allowance(RECORDS_PER_SECOND, BURST_RECORDS)

    async def run(self, observe: Observe) -> None:
        chain = await self._greeted()
        while (message := await self._stream.recv_message()) is not None:
            if not message.HasField("records") or message.HasField("hello"):
                raise _invalid("MESSAGE_UNEXPECTED", "expected records")
            links = [_link(record) for record in message.records.records]
            async with self._at_once:
                kept = await self._settled(self._store.append(self._writer, chain, links))
            await self._acknowledge(kept)
            observe(self._writer, [link.json for link in links])
            await asyncio.sleep(self._allowance.spend(len(links)))

    async def _greeted(self) -> bytes:
        """Take the Hello; return the chain. What is kept of it already is acknowledged at once."""
        try:
            message = await asyncio.wait_for(self._stream.recv_message(), HELLO_SECONDS)
        except TimeoutError:
            raise GRPCError(Status.DEADLINE_EXCEEDED, "HELLO_OVERDUE: no Hello in time") from None
        if message is None or not message.HasField("hello") or message.HasField("records"):
            raise _invalid("MESSAGE_UNEXPECTED", "the first message is a Hello")
        hello = message.hello
        if len(hello.chain) != CHAIN_BYTES:
            raise _invalid("HELLO_INVALID", f"a chain's name has {CHAIN_BYTES} bytes")
        if hello.acknowledged and len(hello.acknowledged_sha256) != HASH_BYTES:
            raise _invalid("HELLO_INVALID", f"a record's hash has {HASH_BYTES} bytes")
        if hello.acknowledged >= 2**63:
            raise _invalid("HELLO_INVALID", "no such sequence")
        said = Head(hello.acknowledged, hello.acknowledged_sha256) if hello.acknowledged else Head()
        kept = await self._settled(self._store.greet(self._writer, hello.chain, said))
        if kept:
            await self._acknowledge(kept)
        return hello.chain

    async def _settled(self, working: Any) -> int:
        """Return up to where the chain is kept. Raises GRPCError; nothing is acknowledged then."""
        try:
            kept: int = await asyncio.wrap_future(working)
        except ChainRefused as error:
            status = {"WRONG_WRITER": Status.PERMISSION_DENIED, "CHAIN_BROKEN": Status.INVALID_ARGUMENT}
            raise GRPCError(status.get(error.code, Status.FAILED_PRECONDITION), str(error)) from error
        except StoreUnavailable as error:
            raise GRPCError(Status.UNAVAILABLE, f"STORE_UNAVAILABLE: {error}") from error
        return kept

    async def _acknowledge(self, sequence: int) -> None:
        try:
            await asyncio.wait_for(self._stream.send_message(wire.AuditAck(sequence=sequence)), SLOW_SECONDS)
        except TimeoutError:
            raise GRPCError(Status.DEADLINE_EXCEEDED, "STREAM_NOT_READ: acks aren't read") from None


class Allowance:
    """A token bucket that says how long to wait, and never refuses."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens, self._at = burst, clock()

    def spend(self, count: int) -> float:
        """Take so many; return the seconds until there is something again."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second) - count
        self._at = now
        return max(0.0, -self._tokens / self._per_second)


def _link(record: wire.AuditRecord) -> Link:
    if len(record.json) > MOST_RECORD_BYTES:
        raise _invalid("RECORD_TOO_LONG", f"{len(record.json)} bytes, expected at most {MOST_RECORD_BYTES}")
    if not 0 < record.sequence < 2**63 or len(record.previous_sha256) != HASH_BYTES:
        raise _invalid("RECORD_INVALID", "a sequence from 1 on, and a hash of 32 bytes")
    return Link(record.sequence, record.previous_sha256, record.json)


def _invalid(code: str, detail: str) -> GRPCError:
    return GRPCError(Status.INVALID_ARGUMENT, f"{code}: {detail}")
