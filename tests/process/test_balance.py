"""Three replicas: load is spread; who is killed fails nobody, who is somebody else is passed over."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.listening import accept_no_more

from .mesh import Mesh, http, tls
from .witness import MANIFEST, PORT

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE = "books/witness:80"
REPLICAS = ("witness-0", "witness-1", "witness-2")
CLIENTS = 8
WAIT_SECONDS = 20.0

# Of the witnesses only those without a proxy; there is none at first.
PLAIN = """\
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: books}
spec:
  selector: {proxy: none}
  ports: [{name: http, port: 80, targetPort: http}]
"""


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with three witnesses among them."""
    text = MANIFEST.replace("replicas: 1", f"replicas: {len(REPLICAS)}")
    assert text != MANIFEST
    (manifests / "witness.yaml").write_text(text)
    (manifests / "plain.yaml").write_text(PLAIN)
    return manifests


@dataclass
class Load:
    """What came of requests that may be repeated, on connections that are kept."""

    statuses: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self, address: tuple[str, int], name: str) -> None:
        """Ask again as soon as the answer is there; on a new connection where one was closed."""
        while True:
            reader, writer = await asyncio.open_connection(*address)
            try:
                while await self._ask(reader, writer, f"/{name}-{len(self.statuses)}"):
                    pass
            except (OSError, EOFError, TimeoutError) as error:
                self.failed.append(f"{type(error).__name__} {error}")
            finally:
                writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bool:
        """False where the connection ends with the answer."""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: witness\r\n\r\n".encode())
        async with asyncio.timeout(WAIT_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await reader.readexactly(int(fields["content-length"]))
        self.statuses.append(int(head.split(" ")[1]))
        if self.statuses[-1] != 200:
            self.failed.append(f"{head}{body.decode()}")
        self.progress.set()
        return fields.get("connection") != "close"

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait, answer by answer."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not done():
                self.progress.clear()
                await self.progress.wait()

    async def more(self, count: int) -> None:
        """Wait for so many more answers."""
        goal = len(self.statuses) + count
        await self.until(lambda: len(self.statuses) >= goal)


@asynccontextmanager
async def _load(mesh: Mesh) -> AsyncIterator[Load]:
    load, address = Load(), mesh.listener("traffic-0", SERVICE)
    tasks = [asyncio.create_task(load.client(address, f"c{number}")) for number in range(CLIENTS)]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _seen(mesh: Mesh, pod: str) -> int:
    """How many requests a replica's application got since it was last asked."""
    address = (mesh.pod(pod).addresses.application, PORT)
    count = len(json.loads((await http(address, "GET", "/seen")).body))
    await http(address, "POST", "/forget")
    return count


async def test_requests_of_a_few_connections_are_spread_over_all_replicas(mesh: Mesh) -> None:
    for pod in REPLICAS:
        await _seen(mesh, pod)
    async with _load(mesh) as load:
        await load.more(600)
    assert not load.failed
    shares = [await _seen(mesh, pod) for pod in REPLICAS]
    assert sum(shares) >= 600
    assert min(shares) > sum(shares) / 10, shares


async def test_l4_20_a_replica_that_is_killed_under_load_fails_no_request(mesh: Mesh) -> None:
    proxy = mesh.pod("witness-1").proxy
    async with _load(mesh) as load:
        await load.more(200)
        for _ in range(3):
            before = proxy.pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await load.more(200)
            await load.until(lambda before=before: proxy.pid not in {None, before})  # type: ignore[misc]
            await load.more(200)
    assert not load.failed
    await mesh.up.all_ready(30)


async def test_i8_a_replica_that_is_somebody_else_is_recorded_and_passed_over(mesh: Mesh) -> None:
    witness = mesh.pod("witness-2")
    await witness.proxy.stop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = tls(mesh.svid("books/authors", witness.uid), server=True)
    server = await asyncio.start_server(answer, *mesh.address("witness-2", PORT), ssl=context)
    try:
        async with _load(mesh) as load:
            address = witness.addresses.proxy
            record = await _rejected(mesh, address)
            await load.more(200)
        assert not load.failed
        assert (record["direction"], record["service"]) == ("outbound", SERVICE)
        assert "authors" in record["detail"]
    finally:
        await accept_no_more(server.sockets)
        server.close()
        witness.proxy.start()
        await mesh.up.all_ready(30)


async def _rejected(mesh: Mesh, address: str) -> dict[str, Any]:
    """The record of an endpoint that wasn't who it should be."""
    kubelet = mesh.up.kubelet
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            for record in kubelet.records.last(2000):
                if record["reason"] == "peer_rejected" and record["peer"]["ip"] == address:
                    return record
            kubelet.recorded.clear()
            await kubelet.recorded.wait()


async def _was_cut(mesh: Mesh, answer: str) -> bool:
    """Whether an answer is that to a call whose endpoint was forbidden meanwhile."""
    named = re.search(r"^x-policyd-decision: (\S+)", answer, re.MULTILINE)
    if named is None:
        return False
    record = await mesh.denial(named[1])
    return (record["reason"], record["detail"]) == ("no_identity", "cut")


async def test_t7_forbidden_plaintext_is_a_decision_and_leaves_the_meshed_replicas(
    mesh: Mesh, manifests: Path
) -> None:
    """A pod without a proxy, beside meshed ones and alone."""
    heard = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nplain")
        await writer.drain()
        writer.close()

    # The application of `traffic` has an address of its own, at which no proxy listens.
    address = mesh.pod("traffic-0").addresses.application
    server = await asyncio.start_server(answer, address, PORT)
    pod, rules = mesh.up.run.pods / "books_plain.json", manifests / "namespace.yaml"
    deny = rules.read_text()
    allow = deny.replace("plaintext: Deny", "plaintext: Allow")
    assert deny != allow
    try:
        pod.write_text(json.dumps(_without_proxy(address)))
        async with _load(mesh) as load:
            record = await _denied_plaintext(mesh)
            await load.more(300)
            assert heard == 0
            rules.write_text(allow)
            await load.until(lambda: heard > 0)
            assert not load.failed
            rules.write_text(deny)
            await _denied_plaintext(mesh)
            before = heard
            await load.more(300)
            assert heard == before
        # A call that was at the pod's when plaintext was forbidden is cut; no other fails.
        assert [answer for answer in load.failed if not await _was_cut(mesh, answer)] == []
        assert (record["reason"], record["status"]) == ("no_identity", 502)
        assert (record["direction"], record["peer"]["ip"]) == ("outbound", address)
    finally:
        await accept_no_more(server.sockets)
        server.close()
        pod.unlink(missing_ok=True)
        rules.write_text(deny)


async def _denied_plaintext(mesh: Mesh) -> dict[str, Any]:
    """The record of a call to somebody without a proxy, as soon as such calls are refused."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            answer = await http(mesh.listener("traffic-0", "books/plain:80"), "GET", "/")
            if answer.status == 502 and "x-policyd-decision" in answer.headers:
                record = mesh.up.kubelet.records.find(answer.decision)
                if record is not None:
                    return record


def _without_proxy(address: str) -> dict[str, Any]:
    """A running pod among the witnesses that has no proxy, at an address of the test's."""
    labels = {"app": "witness", "proxy": "none"}
    ports = [{"name": "http", "containerPort": PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "plain", "namespace": "books", "uid": "plain", "labels": labels},
        "spec": {"containers": [{"name": "plain", "image": "plain:0.1", "ports": ports}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }
