"""A client that is closed has no connection, whatever the other end says or doesn't."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.credentials import Credentials
from kubeapi.path import ResourcePath
from tests.unit.kubeapi.small_server import make_pair, until

PODS = ResourcePath("", "v1", "pods")
BEGUN = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"a":1}\n\r\n'


class Mute:
    """Takes one connection, says what it is told to, and never answers a farewell of TLS."""

    def __init__(self, folder: Path, said: bytes) -> None:
        pair = make_pair(folder, "mute")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._said = said
        self.asked = threading.Event()
        self.left = threading.Event()
        """Whoever asked is gone: there is no socket any more."""
        port = self._listening.getsockname()[1]
        self.access = Access(
            lambda: Credentials(f"https://127.0.0.1:{port}", "Bearer one", pair.certificate.read_text())
        )
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._listening:
            accepted, _ = self._listening.accept()
        with self._context.wrap_socket(accepted, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(self._said)
            self.asked.set()
            with socket.socket(fileno=secured.detach()) as below:
                below.settimeout(20)
                while self._hears(below):
                    pass
        self.left.set()

    @staticmethod
    def _hears(below: socket.socket) -> bool:
        try:
            return below.recv(65536) != b""
        except ConnectionError:
            return False

    def join(self) -> None:
        self._thread.join(30)


@pytest.fixture
def said(request: pytest.FixtureRequest) -> bytes:
    return bytes(request.param)


@pytest.fixture
async def mute(tmp_path: Path, said: bytes) -> AsyncIterator[Mute]:
    found = Mute(tmp_path, said)
    yield found
    await asyncio.to_thread(found.join)


async def _watch(client: Client) -> None:
    async with client.watch(PODS, {}, silence=60, longest=60) as lines:
        async for _ in lines:
            pass


@pytest.mark.parametrize(
    "said", [b"", BEGUN], ids=["before the answer", "in the middle of it"], indirect=True
)
async def test_who_leaves_waits_for_no_farewell(mute: Mute) -> None:
    client = Client(mute.access, "m")
    watching = asyncio.create_task(_watch(client))
    await until(mute.asked.is_set)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await client.close()
    assert all(each.fileno() == -1 for each in client._sockets._made)
    await until(mute.left.is_set, 5.0)


@pytest.mark.parametrize("said", [BEGUN], indirect=True)
async def test_what_is_being_asked_ends_with_the_client(mute: Mute) -> None:
    client = Client(mute.access, "m")
    watching = asyncio.create_task(_watch(client))
    await until(mute.asked.is_set)
    await client.close()
    async with asyncio.timeout(5):
        await asyncio.gather(watching, return_exceptions=True)
    await until(mute.left.is_set, 5.0)
