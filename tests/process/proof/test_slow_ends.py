"""Bodies of 100 MiB that nobody takes: the proxy holds windows' worth, and the rest arrives later."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import h2.connection
import h2.events
import h2.settings
import pytest

from tests.process.mesh import Mesh
from tests.process.witness import Way

from .bulk_app import BLOCK, DIGEST, SIZE
from .reader import CALLER, pod, server
from .senders import Streams, opened
from .tools import tell

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

APP = Path(__file__).parent / "bulk_app.py"
PORT = 7800
MANIFEST = (
    CALLER + pod("bulk", APP, PORT, ["http1", "http2"]) + server("bulk", "http1") + server("bulk", "http2")
)
STILL_SECONDS = 1.0
"""How long nobody takes anything: a hundred times what it takes to fill all buffers."""
MOST_KIB = 6 * 1024
"""Windows, buffers of both connections, and what an allocator rounds up to; the body is 17 times that."""
SECONDS = 60.0


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application with large bodies."""
    folder = tmp_path_factory.mktemp("proof")
    (folder / "bulk.yaml").write_text(MANIFEST)
    return folder


def resident(mesh: Mesh) -> int:
    """KiB of memory that the application's proxy has."""
    status = Path(f"/proc/{mesh.pod('bulk-0').proxy.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


async def stays_small(mesh: Mesh, before: int, what: str) -> None:
    """Watch the memory while nothing is taken."""
    peak = before
    for _ in range(20):
        await asyncio.sleep(STILL_SECONDS / 20)  # it is a measurement
        peak = max(peak, resident(mesh))
    tell(f"{what}: {peak - before} KiB held of {SIZE >> 10}")
    assert peak - before <= MOST_KIB


async def take(mesh: Mesh) -> None:
    """Have the application read."""
    _, writer = await asyncio.open_connection(mesh.pod("bulk-0").addresses.application, PORT + 2)
    writer.close()


@pytest.mark.parametrize("what", ["down", "up"])
async def test_h1_16_of_a_large_body_a_slow_end_holds_little(mesh: Mesh, what: str) -> None:
    reader, writer = await opened(Way(*mesh.address("bulk-0", PORT)))
    before = resident(mesh)
    try:
        async with asyncio.timeout(SECONDS):
            if what == "down":
                writer.write(b"GET /down HTTP/1.1\r\nHost: bulk.test\r\n\r\n")
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
                await stays_small(mesh, before, "HTTP/1.1, the client reads nothing")
                writer.transport.resume_reading()  # type: ignore[attr-defined]
                digest = hashlib.sha256(await reader.readexactly(SIZE)).hexdigest().encode()
            else:
                writer.write(b"POST /up HTTP/1.1\r\nHost: bulk.test\r\nContent-Length: %d\r\n\r\n" % SIZE)
                sending = asyncio.create_task(_send_all(writer))
                await stays_small(mesh, before, "HTTP/1.1, the application reads nothing")
                await take(mesh)
                await sending
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                digest = await reader.readexactly(64)
        assert digest == DIGEST
    finally:
        writer.transport.abort()


async def _send_all(writer: asyncio.StreamWriter) -> None:
    for _ in range(100):
        writer.write(BLOCK)
        await writer.drain()


class Client:
    """A client whose windows are as wide as can be: only the other end's buffers bound what is on its way."""

    def __init__(self, streams: Streams) -> None:
        self._reader, self._writer = streams
        self._connection = h2.connection.H2Connection()
        self.body = bytearray()
        self.over = False

    def begin(self, method: str, path: str) -> None:
        most = 2**31 - 1
        self._connection.initiate_connection()
        self._connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: most})
        self._connection.increment_flow_control_window(most - 65_535)
        fields = ((":method", method), (":scheme", "http"), (":authority", "bulk.test"), (":path", path))
        self._connection.send_headers(1, fields, end_stream=method == "GET")
        self._writer.write(self._connection.data_to_send())

    async def listen(self) -> None:
        """Take what there is, once."""
        received = await self._reader.read(1 << 20)
        assert received, f"the connection ended after {len(self.body)} bytes"
        for event in self._connection.receive_data(received):
            if isinstance(event, h2.events.DataReceived):
                self.body += event.data or b""
            assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated), event
            self.over |= isinstance(event, h2.events.StreamEnded)
        self._writer.write(self._connection.data_to_send())

    async def send_all(self) -> None:
        """Send a body, as fast as the windows let it."""
        left = SIZE
        while left:
            while not (room := self._connection.local_flow_control_window(1)):
                await self.listen()
            size = min(room, left, self._connection.max_outbound_frame_size)
            begin = (SIZE - left) % len(BLOCK)
            left -= size
            piece = (BLOCK + BLOCK[:size])[begin : begin + size]
            self._connection.send_data(1, piece, end_stream=not left)
            self._writer.write(self._connection.data_to_send())
            await self._writer.drain()


@pytest.mark.parametrize("what", ["down", "up"])
async def test_h2_08_of_a_large_body_a_slow_end_holds_windows_and_no_more(mesh: Mesh, what: str) -> None:
    streams = await opened(Way(*mesh.address("bulk-0", PORT + 1)))
    client, before = Client(streams), resident(mesh)
    try:
        async with asyncio.timeout(SECONDS):
            if what == "down":
                client.begin("GET", "/down")
                await client.listen()
                streams[1].transport.pause_reading()  # type: ignore[attr-defined]
                await stays_small(mesh, before, "HTTP/2, the client reads nothing")
                streams[1].transport.resume_reading()  # type: ignore[attr-defined]
            else:
                client.begin("POST", "/up")
                sending = asyncio.create_task(client.send_all())
                await stays_small(mesh, before, "HTTP/2, the application reads nothing")
                await take(mesh)
                await sending
            while not client.over:
                await client.listen()
        digest = hashlib.sha256(client.body).hexdigest().encode() if what == "down" else bytes(client.body)
        assert digest == DIGEST
    finally:
        streams[1].transport.abort()
