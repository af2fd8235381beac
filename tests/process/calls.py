"""Calls of the vault as one identity, straight at its proxy: whether it answers, and work that stays open."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Protocol

import h2.config
import h2.connection
import h2.events

from servicekit.svid import Svid

from .mesh import tls
from .vault import GRPC, HTTP, PORTS, TCP

SAY, CHAT = "/books.Greeter/Say", "/books.Greeter/Chat"
MESSAGE = b"\x00\x00\x00\x00\x02hi"
ANSWER_SECONDS = 5.0
ALPN = {HTTP: "policyd/1+http1", GRPC: "policyd/1+h2", TCP: "policyd/1+tcp"}
GONE = (OSError, EOFError, ssl.SSLError, TimeoutError)


class Caller(Protocol):
    """Asks again and again on connections that are kept where that is possible."""

    async def allowed(self) -> bool:
        """Whether a new request is served."""

    async def begin(self) -> None:
        """Open work that goes on until it is cut; `allowed` isn't called on this one."""

    async def cut(self) -> None:
        """Wait until that work has ended."""

    def close(self) -> None: ...


class _Dialled:
    """A TLS connection to one port of a pod."""

    def __init__(self, kind: str, host: str, svid: Svid) -> None:
        self._address = (host, PORTS[kind])
        self._context = tls(svid, ALPN[kind])
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.reader is None or self.writer is None:
            opened = asyncio.open_connection(*self._address, ssl=self._context, server_hostname="any.test")
            reader, writer = await asyncio.wait_for(opened, ANSWER_SECONDS)
            self.reader, self.writer = reader, writer
            return reader, writer
        return self.reader, self.writer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None

    async def ended(self) -> None:
        reader, _ = await self.streams()
        try:
            while await reader.read(65536):
                pass
        except GONE:
            pass


class HttpCaller(_Dialled):
    """HTTP/1.1 on a kept connection; open work is an answer that doesn't end."""

    def __init__(self, host: str, svid: Svid) -> None:
        super().__init__(HTTP, host, svid)

    async def allowed(self) -> bool:
        try:
            reader, writer = await self.streams()
            writer.write(b"GET /open HTTP/1.1\r\nHost: vault\r\n\r\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        except GONE:
            self.close()
            return False
        if b"connection: close" in head:
            self.close()
        return head.startswith(b"http/1.1 200 ")

    async def begin(self) -> None:
        reader, writer = await self.streams()
        writer.write(b"GET /slow HTTP/1.1\r\nHost: vault\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_SECONDS)
        assert head.startswith(b"HTTP/1.1 200 "), head

    async def cut(self) -> None:
        await self.ended()


class TcpCaller(_Dialled):
    """Lines on a connection that is no HTTP; each request has one of its own."""

    def __init__(self, host: str, svid: Svid) -> None:
        super().__init__(TCP, host, svid)

    async def allowed(self) -> bool:
        try:
            await self.begin()
        except (*GONE, AssertionError):
            return False
        finally:
            self.close()
        return True

    async def begin(self) -> None:
        reader, writer = await self.streams()
        writer.write(b"hello\n")
        assert await asyncio.wait_for(reader.readline(), ANSWER_SECONDS) == b"hello\n"

    async def cut(self) -> None:
        await self.ended()


class GrpcCaller(_Dialled):
    """Calls over HTTP/2 on a kept connection; open work is a stream both ways."""

    def __init__(self, host: str, svid: Svid) -> None:
        super().__init__(GRPC, host, svid)
        self._h2: h2.connection.H2Connection | None = None
        self._stream = 0

    async def allowed(self) -> bool:
        try:
            answer = await self._call(SAY, True, _is_end)
        except GONE:
            self.close()
            return False
        return answer == "0"

    async def begin(self) -> None:
        assert await self._call(CHAT, False, lambda event: isinstance(event, h2.events.DataReceived)) == ""

    async def cut(self) -> None:
        with contextlib.suppress(*GONE):
            await self._events(_is_end, None)

    def close(self) -> None:
        self._h2 = None
        super().close()

    async def _call(self, path: str, end: bool, until: Callable[[h2.events.Event], bool]) -> str:
        """Its grpc-status as soon as `until` says so; empty where none has come."""
        _, writer = await self.streams()
        if self._h2 is None:
            config = h2.config.H2Configuration(header_encoding="utf-8")
            self._h2 = h2.connection.H2Connection(config)
            self._h2.initiate_connection()
        self._stream = self._h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "vault"), (":path", path)]
        self._h2.send_headers(
            self._stream, [*fields, ("content-type", "application/grpc"), ("te", "trailers")]
        )
        self._h2.send_data(self._stream, MESSAGE, end_stream=end)
        writer.write(self._h2.data_to_send())
        return await self._events(until, ANSWER_SECONDS)

    async def _events(self, until: Callable[[h2.events.Event], bool], seconds: float | None) -> str:
        reader, writer = await self.streams()
        connection, status = self._h2, ""
        assert connection is not None
        async with asyncio.timeout(seconds):
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    status = _status(event) or status
                    if isinstance(event, h2.events.DataReceived):
                        length = event.flow_controlled_length or 0
                        connection.acknowledge_received_data(length, event.stream_id or 0)
                    if getattr(event, "stream_id", None) in {self._stream, None} and until(event):
                        writer.write(connection.data_to_send())
                        return status
                writer.write(connection.data_to_send())
        raise EOFError


def _is_end(event: h2.events.Event) -> bool:
    ends = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)
    return isinstance(event, ends)


def _status(event: h2.events.Event) -> str:
    if not isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
        return ""
    return {str(name): str(value) for name, value in event.headers or []}.get("grpc-status", "")


def caller(kind: str, host: str, svid: Svid) -> Caller:
    """A caller of the vault's port of that kind."""
    made: dict[str, Callable[[str, Svid], Caller]] = {HTTP: HttpCaller, GRPC: GrpcCaller, TCP: TcpCaller}
    return made[kind](host, svid)
