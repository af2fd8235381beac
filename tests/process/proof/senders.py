"""Clients that send what they are told to, byte for byte; answers are read by parsers of others."""

from __future__ import annotations

import asyncio
import http.client
import io
import socket
from collections.abc import Sequence
from typing import cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h11

from tests.process.mesh import WAIT_SECONDS
from tests.process.witness import Way

from .at_random import Sent, Sent2
from .reader import Message

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PATIENCE = 1.5
"""Seconds for an answer to what was broken on purpose: the proxy may rightly wait for more."""


async def opened(at: Way) -> Streams:
    """A connection, with TLS where the way has it."""
    name = "any.test" if at.context else None
    async with asyncio.timeout(WAIT_SECONDS):
        return await asyncio.open_connection(at.host, at.port, ssl=at.context, server_hostname=name)


class Http1:
    """Kept connections of HTTP/1.1, one at a time."""

    def __init__(self, at: Way) -> None:
        self._at = at
        self._streams: Streams | None = None

    async def send(self, sent: Sent) -> Message | None:
        """Send one request and read its answer; none where the connection ended without one, or in time."""
        if sent.broken:
            return await self._once(sent)
        for attempt in (1, 2):
            kept = self._streams is not None
            streams = self._streams or await opened(self._at)
            self._streams = None
            answer, again = await _exchange(streams, sent, WAIT_SECONDS)
            if again:
                self._streams = streams
            else:
                streams[1].transport.abort()
            if answer is not None or not kept or attempt == 2:
                return answer  # else it had been closed before it was used
        return None

    async def _once(self, sent: Sent) -> Message | None:
        streams = await opened(self._at)
        try:
            answer, _ = await _exchange(streams, sent, PATIENCE)
            return answer
        finally:
            streams[1].transport.abort()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()


async def _exchange(streams: Streams, sent: Sent, patience: float) -> tuple[Message | None, bool]:
    """The answer, and whether the connection may be used again."""
    reader, writer = streams
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=128 * 1024)
    method = "HEAD" if sent.head.startswith(b"HEAD ") else "GET"
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())  # so that it reads an answer; what is sent is ours
    received = bytearray()
    try:
        async with asyncio.timeout(patience):
            writer.write(sent.head + sent.rest)
            answer = await _answer(client, reader, received)
    except (TimeoutError, ConnectionError):
        return None, False
    if answer is None:
        return None, False
    _agrees(answer, bytes(received), method)
    return answer, client.our_state is h11.DONE and client.their_state is h11.DONE


async def _answer(
    client: h11.Connection, reader: asyncio.StreamReader, received: bytearray
) -> Message | None:
    response, body = None, b""
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            piece = await reader.read(65536)
            received += piece
            if not piece and not received:
                return None
            client.receive_data(piece)
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            fields = tuple((bytes(name), bytes(value)) for name, value in response.headers)
            trailers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
            return Message((b"%d" % response.status_code,), fields, body, trailers)
        else:
            assert isinstance(event, h11.InformationalResponse), event


class _Received:
    """The bytes of an answer where http.client expects a socket."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _agrees(answer: Message, raw: bytes, method: str) -> None:
    """The standard library reads the same answer."""
    other = http.client.HTTPResponse(cast("socket.socket", _Received(raw)), method=method)
    other.begin()
    assert (b"%d" % other.status, other.read()) == (answer.first[0], answer.body), raw
    fields = sorted(
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in other.getheaders()
    )
    assert fields == sorted(answer.fields), raw


async def send2(at: Way, sent: Sent2, more: Sequence[tuple[bytes, bytes]] = ()) -> Message | None:
    """Send a request over HTTP/2 on a connection of its own and read its answer; none where it was reset."""
    reader, writer = await opened(at)
    config = h2.config.H2Configuration(
        header_encoding=False, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = h2.connection.H2Connection(config)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            client.initiate_connection()
            client.send_headers(1, [*sent.fields, *more], end_stream=not (sent.pieces or sent.trailers))
            for number, piece in enumerate(sent.pieces, 1):
                last = number == len(sent.pieces) and not sent.trailers
                client.send_data(1, piece, end_stream=last, pad_length=7 if number == 2 else None)
            if sent.trailers:
                client.send_headers(1, sent.trailers, end_stream=True)
            return await _answer2(client, reader, writer)
    except ConnectionError:
        return None
    finally:
        writer.transport.abort()


async def _answer2(
    client: h2.connection.H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Message | None:
    fields: list[tuple[bytes, bytes]] = []
    trailers: list[tuple[bytes, bytes]] = []
    body = b""
    while True:
        writer.write(client.data_to_send())
        received = await reader.read(65536)
        if not received:
            return None
        for event in client.receive_data(received):
            match event:
                case h2.events.ResponseReceived(headers=got):
                    fields = cast("list[tuple[bytes, bytes]]", list(got or ()))
                case h2.events.DataReceived(data=data, flow_controlled_length=length):
                    body += data or b""
                    client.acknowledge_received_data(length or 0, 1)
                case h2.events.TrailersReceived(headers=got):
                    trailers = cast("list[tuple[bytes, bytes]]", list(got or ()))
                case h2.events.StreamReset(error_code=code):
                    if code == h2.errors.ErrorCodes.NO_ERROR and fields:
                        break  # the answer is whole, and the rest of the body not wanted
                    return None
                case h2.events.ConnectionTerminated() if not fields:
                    return None
                case h2.events.StreamEnded():
                    break
                case _:
                    pass
        else:
            continue
        (status,) = [value for name, value in fields if name == b":status"]
        plain = tuple(pair for pair in fields if pair[0] != b":status")
        return Message((status,), plain, body, tuple(trailers))
