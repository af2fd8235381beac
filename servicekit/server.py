"""A gRPC server over TLS for peers that nobody trusts yet: everything they can make us hold is bounded.

grpclib itself reads a message of any length a peer announces, and waits for a handshake, or for the next
request on an idle connection, for minutes or for ever.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, cast

from google.protobuf.message import DecodeError
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.protocol import Buffer, H2Protocol
from grpclib.server import Handler, Server

from servicekit.tls import HANDSHAKE_SECONDS, ServerTls

MAX_MESSAGE_BYTES = 64 * 1024
"""The longest request message; the longest Certify has a 16 KiB token."""
MAX_CONNECTIONS = 8192
IDLE_SECONDS = 120.0
"""A connection without a request for this long is closed; an open stream counts as a request."""
_WINDOW_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


class ListenError(Exception):
    """The address can't be listened on; one line that says what to do."""


class BoundedServer(Server):
    """A grpclib server with limits. Start it with `listen`."""

    def __init__(self, services: Collection[Any]) -> None:
        config = Configuration(
            http2_connection_window_size=4 * _WINDOW_BYTES, http2_stream_window_size=_WINDOW_BYTES
        )
        super().__init__(services, codec=StrictCodec(), config=config)
        self._connections = 0

    async def listen(self, host: str, port: int, tls: ServerTls) -> str:
        """Bind; `host:port` as bound (port 0: any). Raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._protocol_factory,
                host,
                port,
                ssl=tls.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=HANDSHAKE_SECONDS,
                backlog=1024,
            )
        except OSError as error:
            raise ListenError(listen_problem(host, port, error)) from error
        self._server_closed_fut = loop.create_future()
        bound = self._server.sockets[0].getsockname()
        return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    def stop_listening(self) -> None:
        """Take no new connections; those that are open go on until `close`."""
        if self._server is not None:
            self._server.close()

    def _protocol_factory(self) -> H2Protocol:
        self.__gc_step__()
        handler = _BoundedHandler(self._mapping, self._codec, self._status_details_codec, self.__dispatch__)
        self._handlers.add(handler)
        return _BoundedProtocol(handler, self._config, self._h2_config, self._count)

    def _count(self, change: int) -> bool:
        self._connections += change
        return self._connections <= MAX_CONNECTIONS


class StrictCodec(ProtoCodec):
    """Says INVALID_ARGUMENT to bytes that aren't the message, instead of failing."""

    def decode(self, data: bytes, message_type: Any) -> Any:
        try:
            return super().decode(data, message_type)
        except DecodeError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, "REQUEST_INVALID: not the message expected") from error


class _BoundedBuffer(Buffer):
    async def read(self, size: int) -> bytes:
        if size > MAX_MESSAGE_BYTES:
            detail = f"REQUEST_INVALID: a message of {size} bytes; expected at most {MAX_MESSAGE_BYTES}"
            raise GRPCError(Status.RESOURCE_EXHAUSTED, detail)
        data: bytes = await super().read(size)
        return data


class _BoundedHandler(Handler):
    accepted = 0

    def accept(self, stream: Any, headers: Any, release_stream: Callable[[], Any]) -> None:
        self.accepted += 1
        # Before the first DATA frame: the buffer is still empty.
        stream.buffer = _BoundedBuffer(partial(stream.connection.ack, stream.id))
        super().accept(stream, headers, release_stream)


class _Gathering:
    """A transport that writes once per turn of the loop; grpclib writes head, message and trailers singly."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        data, self._waiting = b"".join(self._waiting), []
        if data:
            self._transport.write(data)


class _BoundedProtocol(H2Protocol):
    """Closes what is too much, idle, or not HTTP/2."""

    def __init__(
        self, handler: _BoundedHandler, config: Configuration, h2_config: Any, count: Callable[[int], bool]
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._accepting = handler
        self._count = count
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        within = self._count(1)
        super().connection_made(cast("asyncio.Transport", _Gathering(transport)))
        if not within:
            transport.abort()
            return
        self._watch_idle(transport)

    def _watch_idle(self, transport: Any, former: int = -1) -> None:
        """Close where nothing is open and no stream began since the last look."""
        begun = self._accepting.accepted
        if former == begun and not self.processor.streams:
            transport.close()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(IDLE_SECONDS, self._watch_idle, transport, begun)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception:  # a peer's bytes must not reach the loop's error handler
            _log.debug("connection closed on bytes that aren't HTTP/2", exc_info=True)
            self.processor.close("Protocol error")

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._count(-1)
        super().connection_lost(exc)


def listen_problem(host: str, port: int, error: OSError) -> str:
    """Say in a line why an address can't be listened on."""
    match error.errno:
        case errno.EADDRINUSE:
            return f"listen {host}:{port}: in use; stop what listens there or choose another port"
        case errno.EACCES:
            return f"listen {host}:{port}: not permitted; choose a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f"listen {host}:{port}: not an address of this machine"
        case _:
            return f"listen {host}:{port}: {error.strerror or error}"
