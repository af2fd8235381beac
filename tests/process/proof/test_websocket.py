"""WebSocket with a real server and a real client, on the three ways to a pod, and where nobody enabled it."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from tests.process.mesh import WAIT_SECONDS, Mesh, tls
from tests.process.witness import Way

from .reader import CALLER, pod, server

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = Path(__file__).parent / "websocket_app.py"
PORT = 7700
MANIFEST = (
    CALLER
    + pod("echo", APP, PORT, ["enabled", "plain"])
    + server("echo", "enabled", "upgrades: [websocket]", "proxyProtocol: HTTP/1")
    + server("echo", "plain")
)
WAYS = ("plaintext", "mutual TLS", "two proxies")
LARGE = 1024 * 1024
CUT_SECONDS = 5.0


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The echo server and its caller."""
    folder = tmp_path_factory.mktemp("proof")
    (folder / "echo.yaml").write_text(MANIFEST)
    return folder


def way(mesh: Mesh, name: str, port: int) -> Way:
    """To one of the echo server's ports."""
    if name == "two proxies":
        return Way(*mesh.listener("caller-0", f"proof/echo:{port - PORT + 80}"))
    context = tls(mesh.svid("proof/caller", mesh.pod("caller-0").uid)) if name == "mutual TLS" else None
    return Way(*mesh.address("echo-0", port), context)


@asynccontextmanager
async def connected(
    mesh: Mesh, by: str, port: int = PORT, path: str = "/"
) -> AsyncIterator[ClientConnection]:
    """A WebSocket through the proxies."""
    at = way(mesh, by, port)
    async with asyncio.timeout(4 * WAIT_SECONDS):
        reader = connect(
            f"{'wss' if at.context else 'ws'}://echo.test{path}",
            host=at.host,
            port=at.port,
            ssl=at.context,
            proxy=None,
            max_size=4 * LARGE,
        )
        async with reader as connection:
            yield connection


@pytest.mark.parametrize("by", WAYS)
async def test_messages_go_both_ways_and_the_end_is_said(mesh: Mesh, by: str) -> None:
    large = random.Random(by).randbytes(LARGE)
    async with connected(mesh, by) as connection:
        for message in ("text", b"", b"\x00\xff", large, "ü" * (LARGE // 2)):
            await connection.send(message)
            assert await connection.recv() == message
        pong = await connection.ping(b"there?")
        await pong
        # Several on their way at once, in their order.
        sending = asyncio.gather(*(connection.send(b"%d" % number) for number in range(100)))
        assert [await connection.recv() for _ in range(100)] == [b"%d" % number for number in range(100)]
        await sending
        await connection.close(CloseCode.GOING_AWAY, "enough")
    assert (connection.close_code, connection.close_reason) == (CloseCode.GOING_AWAY, "enough")


@pytest.mark.parametrize("by", WAYS)
async def test_where_nobody_enabled_it_it_is_refused(mesh: Mesh, by: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(mesh, by, PORT + 1):
            pass
    answer = refused.value.response
    assert answer.status_code == 400
    record = await mesh.denial(answer.headers["x-policyd-decision"])
    assert (record["reason"], record["gate"]["field"]) == ("invalid_request:G14", "upgrade")


@pytest.mark.promise("P-3")
@pytest.mark.parametrize("by", WAYS)
async def test_one_whose_grant_is_gone_is_cut_within_five_seconds(
    mesh: Mesh, manifests: Path, by: str
) -> None:
    file = manifests / "echo.yaml"
    async with connected(mesh, by) as connection:
        await connection.send("before")
        assert await connection.recv() == "before"
        file.write_text(
            MANIFEST.replace("name: echo-enabled-anybody", "name: echo-enabled-anybody, labels: {a: b}")
        )
        await connection.send("still")  # what changed concerns nobody
        assert await connection.recv() == "still"
        file.write_text(
            MANIFEST.replace("targetRef: {group: policyd.dev, kind: Server, name: echo-enabled}", GONE, 1)
        )
        began = time.monotonic()
        try:
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(WAIT_SECONDS):
                    await connection.recv()
            assert time.monotonic() - began < CUT_SECONDS
            with pytest.raises((InvalidStatus, ssl.SSLError, OSError)):
                async with connected(mesh, by):
                    pass
        finally:
            file.write_text(MANIFEST)
    await granted_again(mesh, by)


GONE = "targetRef: {group: policyd.dev, kind: Server, name: echo-plain}"


async def granted_again(mesh: Mesh, by: str) -> None:
    """Wait until the way is open, for the next test."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                async with connected(mesh, by):
                    return
            except InvalidStatus:
                await asyncio.sleep(0.02)  # that a proxy enforces has no event here
