"""An application that writes down what it reads and what it answers, in HTTP/1.1 (h11) and HTTP/2 (h2).

Neither parser is the proxy's. Answers are made at random, the number of the answer being the seed, and
carry that number in `x-answer`. Who connects to the port behind `$PORT + 2` is told everything since the
last time, as JSON, and it is forgotten. `$POD_IP` and `$PORT` say where HTTP/1.1 is; HTTP/2, with prior
knowledge, is one port higher.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import signal
from collections.abc import Iterable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

Pairs = list[tuple[bytes, bytes]]
WRITTEN: list[dict[str, Any]] = []
NUMBERS = itertools.count(1)
STATUSES = (200, 200, 200, 201, 202, 204, 206, 304, 400, 404, 418, 500, 599)
STEADY = b"/steady"
"""What is always answered alike, and not written down."""
LATE_SECONDS = 0.05
"""Until an HTTP/2 client is told how many streams it may have: one that won't wait mustn't assume many."""
VALUES = (b"a", b"a, b", b"x=y; z", b'"q"', b"\xe9t\xe9", b"a  b", b"1" * 300, b"")
"""Of answers' fields: none with blanks around it, since no parser keeps those."""


def text(value: bytes) -> str:
    """Bytes as JSON has them."""
    return base64.b64encode(value).decode()


def texts(pairs: Iterable[tuple[bytes, bytes]]) -> list[list[str]]:
    """Fields as JSON has them."""
    return [[text(bytes(name)), text(bytes(value))] for name, value in pairs]


class Answer:
    """What is answered, by its number."""

    def __init__(self, head: bool, steady: bool) -> None:
        self.number = next(NUMBERS)
        self.steady = steady
        self.trailers = Pairs()
        if steady:
            self.status, self.bodiless, self.body, self.framing = 200, head, b"0123456789" * 40, "length"
            self.fields, self.pieces = Pairs(), [self.body]
            return
        dice = random.Random(self.number)
        self.status = dice.choice(STATUSES)
        self.bodiless = head or self.status in {204, 304}
        size = dice.choice((0, 1, 17, 400, 5_000, 70_000 if dice.random() < 0.1 else 90))
        self.body = b"" if self.status in {204, 304} else dice.randbytes(size)
        self.framing = dice.choice(("length", "length", "chunked"))
        names = (b"x-one", b"x-two", b"content-type", b"set-cookie", b"vary", b"server")
        self.fields = [(dice.choice(names), dice.choice(VALUES)) for _ in range(dice.randrange(5))]
        if dice.random() < 0.3 and not self.bodiless:
            self.framing = "chunked"
            self.trailers = [(b"etag", b'"a"'), (b"x-not-listed", b"b")][: dice.randrange(1, 3)]
        self.pieces = self._pieces(dice)

    def _pieces(self, dice: random.Random) -> list[bytes]:
        if not self.body:
            return []
        cuts = sorted({0, len(self.body), *(dice.randrange(len(self.body)) for _ in range(3))})
        return [self.body[start:end] for start, end in itertools.pairwise(cuts)]

    @property
    def own_fields(self) -> Pairs:
        return [(b"x-answer", b"%d" % self.number), *self.fields]

    def written(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "fields": texts(self.own_fields),
            "body": text(b"" if self.bodiless else self.body),
            "trailers": texts(self.trailers),
        }


def _write(answer: Answer, told: dict[str, Any]) -> None:
    if not answer.steady:
        WRITTEN.append(told)


class Http1:
    """One connection of HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connection = h11.Connection(h11.SERVER)
        self.raw = b""

    async def serve(self) -> None:
        try:
            while await self._one():
                self.connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            WRITTEN.append({"error": str(error), "raw": text(self.raw)})

    async def _one(self) -> bool:
        request, body = None, b""
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                return False
        assert request is not None
        left = len(self.connection.trailing_data[0])
        answer = Answer(request.method == b"HEAD", request.target == STEADY)
        _write(
            answer,
            {
                "number": answer.number,
                "version": 1,
                "method": text(request.method),
                "target": text(request.target),
                "fields": texts(request.headers),
                "body": text(body),
                "trailers": texts(event.headers),
                "raw": text(self.raw[: len(self.raw) - left]),
                "left": left,
                "answer": answer.written(),
            },
        )
        self.raw = self.raw[len(self.raw) - left :]
        await self._answer(answer)
        return self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE

    async def _next(self) -> object:
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            received = await self.reader.read(65536)
            self.raw += received
            self.connection.receive_data(received)
        return event

    async def _answer(self, answer: Answer) -> None:
        fields = answer.own_fields
        if answer.framing == "length" and answer.status not in {204, 304}:
            fields = [*fields, (b"content-length", b"%d" % len(answer.body))]
        sent = self.connection.send(h11.Response(status_code=answer.status, headers=fields)) or b""
        if not answer.bodiless:
            for piece in answer.pieces:
                sent += self.connection.send(h11.Data(data=piece)) or b""
        chunked = self.connection.their_http_version == b"1.1"
        end = h11.EndOfMessage(headers=answer.trailers if chunked else [])
        sent += self.connection.send(end) or b""
        self.writer.write(sent)
        await self.writer.drain()


class Http2:
    """One connection of HTTP/2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(client_side=False, header_encoding=False)
        self.connection = h2.connection.H2Connection(config)
        self.streams: dict[int, dict[str, Any]] = {}
        self.waiting: dict[int, tuple[Answer, bytes]] = {}

    async def serve(self) -> None:
        self.connection.initiate_connection()
        await asyncio.sleep(LATE_SECONDS)
        try:
            while True:
                self.writer.write(self.connection.data_to_send())
                await self.writer.drain()
                received = await self.reader.read(65536)
                if not received:
                    return
                for event in self.connection.receive_data(received):
                    self._take(event)
                self._send_on()
        except h2.exceptions.ProtocolError as error:
            WRITTEN.append({"error": repr(error), "raw": ""})

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(headers=fields, stream_id=stream):
                self.streams[stream] = {"fields": list(fields or []), "body": b"", "trailers": []}
            case h2.events.DataReceived(data=data, stream_id=stream, flow_controlled_length=length):
                if stream in self.streams:
                    self.streams[stream]["body"] += data or b""
                self.connection.acknowledge_received_data(length or 0, stream or 0)
            case h2.events.TrailersReceived(headers=fields, stream_id=stream) if stream in self.streams:
                self.streams[stream]["trailers"] = list(fields or [])
            case h2.events.StreamEnded(stream_id=stream) if stream in self.streams:
                self._answer(stream or 0, self.streams.pop(stream or 0))
            case h2.events.StreamReset(stream_id=stream):
                self.streams.pop(stream or 0, None)
                self.waiting.pop(stream or 0, None)
            case _:
                pass

    def _answer(self, stream: int, read: dict[str, Any]) -> None:
        pseudo = {name: value for name, value in read["fields"] if name.startswith(b":")}
        answer = Answer(pseudo[b":method"] == b"HEAD", pseudo[b":path"] == STEADY)
        _write(
            answer,
            {
                "number": answer.number,
                "version": 2,
                "method": text(pseudo[b":method"]),
                "target": text(pseudo[b":path"]),
                "authority": text(pseudo.get(b":authority", b"")),
                "fields": texts(pair for pair in read["fields"] if not pair[0].startswith(b":")),
                "body": text(read["body"]),
                "trailers": texts(read["trailers"]),
                "left": 0,
                "answer": answer.written(),
            },
        )
        fields = [(b":status", b"%d" % answer.status), *answer.own_fields]
        if answer.framing == "length" and answer.status not in {204, 304}:
            fields.append((b"content-length", b"%d" % len(answer.body)))
        ends = answer.bodiless or not (answer.body or answer.trailers)
        self.connection.send_headers(stream, fields, end_stream=ends)
        if not ends:
            self.waiting[stream] = (answer, answer.body)

    def _send_on(self) -> None:
        for stream, (answer, body) in list(self.waiting.items()):
            rest = body
            while rest and (room := self.connection.local_flow_control_window(stream)):
                piece = rest[: min(room, self.connection.max_outbound_frame_size)]
                rest = rest[len(piece) :]
                self.connection.send_data(stream, piece, end_stream=not rest and not answer.trailers)
            self.waiting[stream] = (answer, rest)
            if not rest:
                del self.waiting[stream]
                if answer.trailers:
                    self.connection.send_headers(stream, answer.trailers, end_stream=True)


async def main() -> None:
    """Serve until SIGTERM."""
    address, port = os.environ["POD_IP"], int(os.environ["PORT"])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def serve(kind: type[Http1 | Http2], streams: Any) -> None:
        with contextlib.suppress(OSError):
            await kind(*streams).serve()
        streams[1].transport.abort()

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(WRITTEN).encode())
        WRITTEN.clear()
        await writer.drain()
        writer.close()

    await asyncio.start_server(tell, address, port + 2)
    await asyncio.start_server(lambda *streams: serve(Http1, streams), address, port)
    await asyncio.start_server(lambda *streams: serve(Http2, streams), address, port + 1)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
