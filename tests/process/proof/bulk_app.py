"""An application that gives and takes large bodies, in HTTP/1.1 and, one port higher, HTTP/2 (h2).

`GET /down` is answered with `SIZE` bytes; the body of `POST /up` isn't read until somebody connects to
`$PORT + 2`, and is answered with its SHA-256. `$POD_IP` and `$PORT` say where.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal

import h2.config
import h2.connection
import h2.events

BLOCK = bytes(range(256)) * 4096
SIZE = 100 * len(BLOCK)
DIGEST = hashlib.sha256(BLOCK * 100).hexdigest().encode()
GO = asyncio.Event()


async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /down "):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
            for _ in range(100):
                writer.write(BLOCK)
                await writer.drain()
        elif head.startswith(b"POST /up "):
            await GO.wait()
            digest, left = hashlib.sha256(), SIZE
            while left and (piece := await reader.read(65536)):
                digest.update(piece)
                left -= len(piece)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n" + digest.hexdigest().encode())
            await writer.drain()
    writer.close()


class Http2:
    """One connection, with one stream at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(client_side=False, header_encoding=False)
        self.connection = h2.connection.H2Connection(config)
        self.digest = hashlib.sha256()
        self.stream = self.left = 0

    async def serve(self) -> None:
        self.connection.initiate_connection()
        while True:
            self.writer.write(self.connection.data_to_send())
            await self.writer.drain()
            received = await self.reader.read(65536)
            if not received:
                return
            for event in self.connection.receive_data(received):
                await self._take(event)
            self._send_on()

    async def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(headers=fields, stream_id=stream):
                self.digest = hashlib.sha256()
                if (b":path", b"/down") in list(fields or []):
                    head = [(":status", "200"), ("content-length", str(SIZE))]
                    self.connection.send_headers(stream or 0, head)
                    self.stream, self.left = stream or 0, SIZE
            case h2.events.DataReceived(data=data, flow_controlled_length=length, stream_id=stream):
                await GO.wait()
                self.digest.update(data or b"")
                self.connection.acknowledge_received_data(length or 0, stream or 0)
            case h2.events.StreamEnded(stream_id=stream) if not self.left:
                self.connection.send_headers(stream or 0, [(":status", "200")])
                self.connection.send_data(stream or 0, self.digest.hexdigest().encode(), end_stream=True)
            case _:
                pass

    def _send_on(self) -> None:
        while self.left and (room := self.connection.local_flow_control_window(self.stream)):
            size = min(room, self.left, self.connection.max_outbound_frame_size)
            begin = (SIZE - self.left) % len(BLOCK)
            piece = (BLOCK + BLOCK[:size])[begin : begin + size]
            self.left -= size
            self.connection.send_data(self.stream, piece, end_stream=not self.left)


async def main() -> None:
    """Serve until SIGTERM."""
    address, port = os.environ["POD_IP"], int(os.environ["PORT"])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def http2(*streams: asyncio.StreamReader | asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await Http2(*streams).serve()  # type: ignore[arg-type]
        streams[1].transport.abort()  # type: ignore[union-attr]

    async def go(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        GO.set()
        writer.close()

    await asyncio.start_server(go, address, port + 2)
    await asyncio.start_server(http1, address, port)
    await asyncio.start_server(http2, address, port + 1)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
