"""An application that answers at once and costs little: tests that need many requests call it.

Every request gets a 200 with its own first line as body; `/slow` begins an answer and goes on with it.
SIGTERM is taken as a rollout's end of a pod is: it serves on for `$LINGER_SECONDS`, then ends what is idle.
`$POD_IP` and `$PORT` say where it listens, `$ECHO_PORT` where it gives back lines without any HTTP.
"""

import asyncio
import os
import signal

TICK_SECONDS = 0.1


class Conversation(asyncio.Protocol):
    """One connection, request after request, pipelined or not; requests have no bodies."""

    def __init__(self) -> None:
        self.rest = b""
        self.ticking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for head in heads:
            line = head[: head.index(b"\r\n")]
            if b" /slow" in line:
                self.ticking = asyncio.ensure_future(self._tick())
                return
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(line), line))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.ticking is not None:
            self.ticking.cancel()

    async def _tick(self) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            self.transport.write(b"1\r\n.\r\n")
            await asyncio.sleep(TICK_SECONDS)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass  # the proxy may end a connection at any time
    finally:
        writer.close()


async def _serve() -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    host = os.environ["POD_IP"]
    await loop.create_server(Conversation, host, int(os.environ["PORT"]), backlog=1024)
    if "ECHO_PORT" in os.environ:
        await asyncio.start_server(_echo, host, int(os.environ["ECHO_PORT"]))
    await over.wait()
    await asyncio.sleep(float(os.environ.get("LINGER_SECONDS", "0")))


if __name__ == "__main__":
    asyncio.run(_serve())
