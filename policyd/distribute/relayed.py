"""Audit streams through the fan-out: one message at a time, the next when the one before is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from google.protobuf.message import DecodeError
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from policyd.engine import Delivered, Ended, Fanout, Greeted, Nacked, Opened
from policyd_api.v1 import audit_pb2 as wire


class RelayedStream:
    """One stream as `AuditStreamService` knows streams."""

    def __init__(self, event: Opened, fanout: Fanout) -> None:
        self.leaf_der = event.leaf
        self._stream = event.stream
        self._fanout = fanout
        self._next: asyncio.Future[bytes | None] | None = None
        self._over = False

    async def send_initial_metadata(self) -> None:
        """Say that the peer is listened to."""
        self._fanout.admit(self._stream)

    async def recv_message(self) -> wire.AuditMessage | None:
        """Wait for the next message; None at the end. Raises StreamTerminatedError where the peer is gone."""
        self._next = asyncio.get_running_loop().create_future()
        if self._over:
            raise StreamTerminatedError("the peer is gone")
        self._fanout.take(self._stream)
        message = await self._next
        try:
            return None if message is None else wire.AuditMessage.FromString(message)
        except DecodeError as error:
            detail = "REQUEST_INVALID: not the message expected"
            raise GRPCError(Status.INVALID_ARGUMENT, detail) from error

    async def send_message(self, message: wire.AuditAck) -> None:
        """Answer. A peer that doesn't read answers is let go by the fan-out."""
        self._fanout.reply(self._stream, message.SerializeToString())

    def on_event(self, event: Delivered | Ended) -> None:
        """Take what happened."""
        waiting = self._next is not None and not self._next.done()
        if isinstance(event, Ended):
            self._over = True
            if waiting and self._next is not None:
                self._next.set_exception(StreamTerminatedError(event.problem or "the peer is gone"))
        elif waiting and self._next is not None:
            self._next.set_result(event.message)


class RelayService:
    """Runs `serve` for each stream."""

    def __init__(self, serve: Callable[[RelayedStream], Awaitable[None]], fanout: Fanout) -> None:
        self._serve = serve
        self._fanout = fanout
        self._streams: dict[int, RelayedStream] = {}
        self._running: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Nothing happens by itself."""

    def close(self) -> None:
        """Work on no message any more; what isn't acknowledged comes again."""
        for task in self._running:
            task.cancel()

    def opened(self, event: Opened) -> None:
        """Begin to serve a stream."""
        relayed = RelayedStream(event, self._fanout)
        self._streams[event.stream] = relayed
        task = asyncio.get_running_loop().create_task(self._run(event.stream, relayed))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def on_event(self, event: Greeted | Nacked | Delivered | Ended) -> None:
        """Take what happened on a stream of ours."""
        relayed = self._streams.get(event.stream)
        if relayed is not None and isinstance(event, Delivered | Ended):
            relayed.on_event(event)
        if isinstance(event, Ended):
            self._streams.pop(event.stream, None)

    async def _run(self, stream: int, relayed: RelayedStream) -> None:
        status, problem = Status.OK, ""
        try:
            await self._serve(relayed)
        except GRPCError as error:
            status, problem = error.status, error.message or ""
        except (StreamTerminatedError, ConnectionError):
            pass  # the peer is gone
        except Exception:
            structlog.get_logger().exception("audit_stream_failed")
            status, problem = Status.INTERNAL, "INTERNAL: policyd's log says more"
        finally:
            self._streams.pop(stream, None)
        self._fanout.end(stream, status.value, problem)
