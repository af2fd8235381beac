"""A peer with more connections than it may have (promise P-15: it is told apart from every other refusal)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from .mesh import NOTHING, WAIT_SECONDS, Mesh, exchange, http, tls
from .witness import MANIFEST, PORT

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST_OF_ONE_PEER = 1000
ASK = b"GET /kept HTTP/1.1\r\nHost: books.test\r\n\r\n"


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with a witness among them."""
    (manifests / "witness.yaml").write_text(MANIFEST)
    return manifests


async def _kept(address: tuple[str, int]) -> asyncio.StreamWriter:
    """A connection that had its answer and stays; after a denial it wouldn't."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(ASK)
    assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
    return writer


def _end(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.promise("P-15")
async def test_p_15_a_peer_with_too_many_connections_is_told_apart(mesh: Mesh) -> None:
    address = mesh.address("witness-0", PORT)
    async with AsyncExitStack() as open_now:
        for _ in range(MOST_OF_ONE_PEER):
            open_now.callback(_end, await _kept(address))
        assert await exchange(*address, ASK) == b""
        record = await mesh.denial_that(pod="witness-0", reason="overloaded")
        assert (record["verdict"], record["status"], record["detail"]) == ("deny", None, "connections")
        svid = mesh.svid("books/traffic", mesh.pod("traffic-0").uid)
        assert (await http(address, "GET", "/another", context=tls(svid))).status == 200
    async with asyncio.timeout(WAIT_SECONDS):
        while (answer := await http(address, "GET", "/again")) == NOTHING:
            await asyncio.sleep(0.01)  # that the proxy noticed the ends has no event here
    assert answer.status == 200
