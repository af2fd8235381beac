"""Parsers of HTTP/1.1 that have nothing to do with each other, each reading the same bytes.

h11, llhttp (by httptools; it is Node's), the standard library's http.server with http.client, and Go's
net/http where Go is there. Nothing here reads HTTP by itself.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import http.server
import io
import json
import struct
from collections.abc import Awaitable, Callable, Sequence
from email.message import Message as Headers
from pathlib import Path
from typing import Any

import h11
import httptools

from .reader import Message, pairs


class UnreadError(Exception):
    """The parser refuses what it was given."""


def by_h11(raw: bytes) -> list[Message]:
    """All requests in the bytes."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    messages: list[Message] = []
    request, body = None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise UnreadError(str(error)) from error
        if isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            fields = tuple((bytes(name), bytes(value)) for name, value in request.headers)
            trailers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
            messages.append(Message((request.method, request.target, host(fields)), fields, body, trailers))
            if not connection.trailing_data[0]:
                return messages
            _answer(connection)
        else:
            raise UnreadError(f"ends early: {event}")


def _answer(connection: h11.Connection) -> None:
    """Get h11 to read the next request: it wants the last one answered."""
    try:
        connection.send(h11.Response(status_code=204, headers=[]))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()
    except h11.LocalProtocolError as error:
        raise UnreadError(f"bytes after the last request: {error}") from error


class _Callbacks:
    """What llhttp tells of each message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.parser: Any = None
        self.open = False

    def on_message_begin(self) -> None:
        self.target, self.body = b"", b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.in_head = self.open = True

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        (self.fields if self.in_head else self.trailers).append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.method = self.parser.get_method()

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.open = False
        fields = tuple(self.fields)
        first = (self.method, self.target, host(fields))
        self.messages.append(Message(first, fields, self.body, tuple(self.trailers)))


def by_llhttp(raw: bytes) -> list[Message]:
    """All requests in the bytes."""
    callbacks = _Callbacks()
    callbacks.parser = httptools.HttpRequestParser(callbacks)
    try:
        callbacks.parser.feed_data(raw)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise UnreadError(repr(error)) from error
    if callbacks.open:
        raise UnreadError("ends early")
    return callbacks.messages


class _Handler(http.server.BaseHTTPRequestHandler):
    """The standard library's reading of a head; nothing is answered."""

    def __init__(self, rfile: io.BytesIO) -> None:
        self.rfile = rfile  # a file is what it reads from
        self.wfile = io.BytesIO()
        self.client_address = ("", 0)
        self.raw_requestline = rfile.readline(65537)
        self.close_connection = True
        self.error = ""
        self.whole = self.parse_request()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.error = f"{code} {message}"

    def handle_expect_100(self) -> bool:
        return True


class _Body(http.client.HTTPResponse):
    """The standard library's reading of a body, which is that of an answer."""

    def __init__(self, file: io.BytesIO, headers: Headers) -> None:
        self.fp = file  # type: ignore[assignment]
        self.debuglevel, self._method, self.status = 0, "POST", 200
        self.chunked = bool(headers.get("transfer-encoding"))
        self.chunk_left, self.will_close = None, False
        self.length = None if self.chunked else int(headers.get("content-length") or 0)

    def _close_conn(self) -> None:
        self.fp = None  # type: ignore[assignment]


def by_library(raw: bytes) -> list[Message]:
    """All requests in the bytes; trailers are skipped by http.client."""
    file = io.BytesIO(raw)
    messages = []
    while file.tell() < len(raw):
        head = _Handler(file)
        if not head.whole:
            raise UnreadError(head.error or "no request")
        latin = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()
        ]
        fields = tuple((name, value.strip(b" \t")) for name, value in latin)
        try:
            body = _Body(file, head.headers).read() if raw[file.tell() :] else b""
        except (http.client.HTTPException, ValueError) as error:
            raise UnreadError(repr(error)) from error
        first = (head.command.encode("latin-1"), head.path.encode("latin-1"), host(fields))
        messages.append(Message(first, fields, body))
    return messages


class ByGo:
    """Go's net/http in a process of its own: bytes with their length in front in, a line of JSON out."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __call__(self, raw: bytes) -> list[Message]:
        async with self._turn:
            told = json.loads(await self._ask(raw))
        if told["error"]:
            raise UnreadError(told["error"])
        return [
            Message(
                (_bytes(each["method"]), _bytes(each["target"]), _bytes(each["host"])),
                pairs(each["fields"] or ()),
                _bytes(each["body"]),
                pairs(each["trailers"] or ()),
            )
            for each in told["requests"] or ()
        ]

    async def _ask(self, raw: bytes) -> bytes:
        if self._process is None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                self._program, stdin=pipe, stdout=pipe, limit=64 * 1024 * 1024
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(struct.pack(">I", len(raw)) + raw)
        return await self._process.stdout.readline()

    async def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()


def _bytes(told: str | None) -> bytes:
    return base64.b64decode(told or "")


def host(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """What the parser has for `host`; of several all."""
    return b"|".join(value for name, value in fields if name == b"host")


def _soon(parser: Callable[[bytes], list[Message]]) -> Callable[[bytes], Awaitable[list[Message]]]:
    async def read(raw: bytes) -> list[Message]:
        return parser(raw)

    return read


Parser = Callable[[bytes], Awaitable[list[Message]]]
ALWAYS: dict[str, Parser] = {
    "h11": _soon(by_h11),
    "llhttp": _soon(by_llhttp),
    "http.server": _soon(by_library),
}
