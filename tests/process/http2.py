"""HTTP/2 with prior knowledge, by clients and servers that aren't ours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from .mesh import WAIT_SECONDS
from .witness import Way

Fields = Sequence[tuple[str, str]]


@dataclass
class Answer:
    """What came back on the stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", "0"))


def head(method: str, path: str, *more: tuple[str, str], authority: str = "books.test") -> Fields:
    """The fields of a request."""
    return [
        (":method", method),
        (":scheme", "http"),
        (":authority", authority),
        (":path", path),
        *more,
    ]


async def ask(at: Way, fields: Fields, body: bytes = b"") -> Answer:
    """Send one request, unchecked by the client, and wait for its end."""
    name = "any.test" if at.context else None
    reader, writer = await asyncio.open_connection(at.host, at.port, ssl=at.context, server_hostname=name)
    config = h2.config.H2Configuration(
        header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = h2.connection.H2Connection(config)
    try:
        client.initiate_connection()
        client.send_headers(1, fields, end_stream=not body)
        if body:
            client.send_data(1, body, end_stream=True)
        async with asyncio.timeout(WAIT_SECONDS):
            return await _answer(client, reader, writer)
    finally:
        writer.transport.abort()


async def _answer(
    client: h2.connection.H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Answer:
    answer = Answer()
    while True:
        writer.write(client.data_to_send())
        received = await reader.read(65536)
        if not received:
            return answer
        for event in client.receive_data(received):
            if _ends(answer, event):
                return answer


def _ends(answer: Answer, event: h2.events.Event) -> bool:
    """Take an event into account; whether it ends the stream."""
    match event:
        case h2.events.ResponseReceived(headers=headers):
            answer.headers = _texts(headers)
        case h2.events.DataReceived(data=data):
            answer.body += data or b""
        case h2.events.TrailersReceived(headers=headers):
            answer.trailers = _texts(headers)
        case h2.events.StreamReset(error_code=code):
            answer.reset = int(code or 0)
            return True
        case h2.events.StreamEnded():
            return True
        case _:
            pass
    return False


def _texts(headers: object) -> dict[str, str]:
    assert isinstance(headers, list)
    return {_text(name): _text(value) for name, value in headers}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request on a connection with 200, as soon as its head is there."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    try:
        while True:
            writer.write(server.data_to_send())
            await writer.drain()
            received = await reader.read(65536)
            if not received:
                return
            for event in server.receive_data(received):
                if isinstance(event, h2.events.RequestReceived) and event.stream_id is not None:
                    server.send_headers(event.stream_id, [(":status", "200"), ("content-length", "2")])
                    server.send_data(event.stream_id, b"ok", end_stream=True)
    except OSError:
        pass
    finally:
        writer.close()
