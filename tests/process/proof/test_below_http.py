"""Connections that misbehave below HTTP, descriptors that run out, and what the pod's own port allows."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import struct
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from policyd.up.replica import ADMIN_PORT
from tests.process.mesh import WAIT_SECONDS, Mesh, exchange, http, tls

from .reader import APP, CALLER, PORT, pod, server, way, written
from .senders import Http1, opened
from .test_floods import GOOD

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANIFEST = (
    CALLER
    + pod("reader", APP, PORT, ["http1", "http2"])
    + server("reader", "http1", "proxyProtocol: HTTP/1")
    + server("reader", "http2")
)
HEAD = b"POST /torn HTTP/1.1\r\nHost: reader.test\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader, whose first port says that it speaks HTTP/1."""
    folder = tmp_path_factory.mktemp("proof")
    (folder / "reader.yaml").write_text(MANIFEST)
    return folder


async def metric(mesh: Mesh, name: str) -> int:
    """What the reader's proxy counts."""
    answer = await http((mesh.pod("reader-0").addresses.application, ADMIN_PORT), "GET", "/metrics")
    found = re.search(rf"^{name} (\d+)$", answer.body.decode(), re.MULTILINE)
    assert found is not None, answer.body.decode()
    return int(found[1])


async def test_l4_07_without_descriptors_what_is_open_goes_on_and_it_recovers_by_itself(mesh: Mesh) -> None:
    pid = mesh.pod("reader-0").proxy.pid
    assert pid is not None
    fds, stat = Path(f"/proc/{pid}/fd"), Path(f"/proc/{pid}/stat")
    with closing(Http1(way(mesh, "plaintext"))) as kept:
        assert await kept.send(GOOD) is not None
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(list(fds.iterdir())) + 10, before[1]))
        try:
            async with AsyncExitStack() as crowd:
                for _ in range(60):
                    _, writer = await opened(way(mesh, "plaintext"))  # by the kernel, whoever accepts it
                    crowd.callback(_end, writer)
                spent = _cpu(stat)
                await asyncio.sleep(1)  # it is a measurement: a loop that spins spends it all
                assert _cpu(stat) - spent < 0.5
                for _ in range(20):
                    assert (await kept.send(GOOD)) is not None
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert await metric(mesh, "policyd_accept_failures_total") > 0
    with closing(Http1(way(mesh, "plaintext"))) as another:
        answer = await another.send(GOOD)
    assert answer is not None
    assert answer.first == (b"200",)


def _end(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _cpu(stat: Path) -> float:
    """Seconds of processor time that a process has used."""
    words = stat.read_text().rpartition(") ")[2].split()
    return (int(words[11]) + int(words[12])) / 100


async def test_l4_09_silence_on_a_port_that_speaks_http_is_ended_and_denied(mesh: Mesh) -> None:
    began = time.monotonic()
    assert await exchange(*mesh.address("reader-0", PORT), b"") == b""
    assert 1.5 < time.monotonic() - began < 5
    record = await mesh.denial_that(pod="reader-0", port=PORT, reason="protocol_refused")
    assert (record["verdict"], record["status"]) == ("deny", None)


async def test_l4_12_whatever_ends_halfway_leaves_nothing_behind(mesh: Mesh) -> None:
    """Resets in a head, in a body and in a handshake; ends of one direction; and everything byte by byte."""
    context = tls(mesh.svid("proof/caller", mesh.pod("caller-0").uid))
    host, port = mesh.address("reader-0", PORT)
    open_before = await metric(mesh, "policyd_inbound_open")
    for sent in (
        b"",
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"POST /to",
        HEAD,
        HEAD + b"a" * 5_000,
    ):
        for how in ("reset", "half"):
            with socket.create_connection((host, port)) as connection:
                connection.sendall(sent)
                if how == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.shutdown(socket.SHUT_WR)
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="any.test")
    for byte in GOOD.head:
        writer.write(bytes((byte,)))
        await writer.drain()
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
    writer.transport.abort()
    assert b" 200 " in head
    async with asyncio.timeout(WAIT_SECONDS):
        while await metric(mesh, "policyd_inbound_open") > open_before:
            await asyncio.sleep(0.05)  # that a proxy noticed the ends has no event here
    assert [read for read in (await written(mesh))[0] if read.request.first[1] == b"/torn"] == []


@pytest.mark.parametrize(
    "path", ["/shutdown", "/quit", "/log", "/config", "/debug/pprof", "/ready/../config"]
)
async def test_l4_18_the_pods_own_port_changes_and_tells_nothing_of_policy(mesh: Mesh, path: str) -> None:
    address = (mesh.pod("reader-0").addresses.application, ADMIN_PORT)
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert (await http(address, method, path)).status in {404, 405}
    for known in ("/live", "/ready", "/metrics"):
        assert (await http(address, "POST", known)).status in {404, 405}
    with closing(Http1(way(mesh, "plaintext"))) as client:
        assert await client.send(GOOD) is not None
