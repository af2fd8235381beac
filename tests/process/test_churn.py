"""Tables come and go under traffic: what stays allowed never fails, what ends is cut (design §8)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policyd.up.up_socket import ask_socket

from .mesh import Mesh, http

pytestmark = pytest.mark.asyncio(loop_scope="module")

EDITS = 100
CHURN_SECONDS = 60.0
ENFORCED_SECONDS = 10.0
ANSWER_SECONDS = 5.0
CUT_SECONDS = 5.0

WEBAPP = "books/webapp:80"
PRIMARY, REPLICA = "books/database:5432", "books/database:5433"
BOOK = b'{"id": "9", "title": "Dawn"}'
ADD = {"Host": "books.test", "X-Role": "editor", "Content-Length": str(len(BOOK))}

# Concerns no request that the clients here make, and yet changes the tables of all workloads: rules,
# what the gate reads (a header), the webapp's routes, and whom the database's replica knows.
POLICY = """\
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: churn-path, namespace: books}}
spec:
  action: Deny
  targetRef: {{kind: Namespace, name: books}}
  requiredAuthenticationRefs: []
  when:
    - path: {{prefix: /churn-{edit}}}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: churn-header, namespace: books}}
spec:
  action: Deny
  targetRef: {{kind: Namespace, name: books}}
  requiredAuthenticationRefs: []
  when:
    - header: {{name: x-churn-{edit}, exists: true}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: churn, namespace: books}}
spec:
  parentRefs: [{{group: policyd.dev, kind: Server, name: webapp-http}}]
  rules:
    - matches:
        - path: {{type: Exact, value: /routed-{edit}}}
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: churn-address, namespace: books}}
spec:
  targetRef: {{group: policyd.dev, kind: Server, name: database-replica}}
  requiredAuthenticationRefs:
    - {{group: policyd.dev, kind: NetworkAuthentication, name: churn}}
---
apiVersion: policyd.dev/v1alpha1
kind: NetworkAuthentication
metadata: {{name: churn, namespace: books}}
spec:
  networks:
    - {{cidr: 192.0.2.{edit}/32}}
"""


@dataclass
class Kept:
    """A connection that is used again and again. Each of its ends that wasn't asked for is a failure."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
        """One request; the status of its answer. Raises OSError or EOFError where there is none."""
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        async with asyncio.timeout(ANSWER_SECONDS):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines[1:] if line)
            await self.reader.readexactly(int(fields["content-length"]))
        return int(lines[0].split(" ")[1])

    async def query(self, line: str) -> object:
        """One line to the database, and its answer; None where the connection has ended."""
        self.writer.write(line.encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await self.reader.readline()
        return json.loads(answer) if answer else None


@asynccontextmanager
async def kept(address: tuple[str, int]) -> AsyncIterator[Kept]:
    """A connection for as long as the block lasts."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Kept(reader, writer)
    finally:
        writer.transport.abort()


@dataclass
class Traffic:
    """What came of requests that are allowed all the time."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)

    async def repeat(self, name: str, ask: Callable[[], Awaitable[int]]) -> None:
        """Ask again as soon as the answer is there, until cancelled or a connection is lost."""
        while True:
            try:
                status = await ask()
            except (OSError, EOFError, TimeoutError) as error:
                self.failed.append(f"{name}: {type(error).__name__} {error}")
                return
            self.answered += 1
            if not 200 <= status < 300:
                self.failed.append(f"{name}: {status}")


@asynccontextmanager
async def hammering(mesh: Mesh) -> AsyncIterator[Traffic]:
    """Clients that read on new connections, and read and write on kept ones, while the block lasts."""
    traffic, address = Traffic(), mesh.listener("traffic-0", WEBAPP)

    async def once() -> int:
        return (await http(address, "GET", "/books")).status

    async with kept(address) as reading, kept(address) as writing:
        asks: dict[str, Callable[[], Awaitable[int]]] = {
            "new connection": once,
            "kept GET": lambda: reading.ask("GET", "/books", {"Host": "books.test"}),
            "kept POST": lambda: writing.ask("POST", "/books", ADD, BOOK),
        }
        tasks = [asyncio.create_task(traffic.repeat(name, ask)) for name, ask in asks.items()]
        try:
            yield traffic
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _versions(mesh: Mesh) -> dict[str, str]:
    """The table that each pod's proxy says it enforces."""
    status = await ask_socket(mesh.up.control_plane.status_socket, {"ask": "status"})
    return {proxy["pod"]: str(proxy["enforced"]) for proxy in status["proxies"]}


async def _until_replaced(mesh: Mesh, before: dict[str, str], idle: Kept) -> dict[str, str]:
    """Ask for the status until all proxies enforce another table; then use `idle` once."""
    async with asyncio.timeout(ENFORCED_SECONDS):
        while True:
            now = await _versions(mesh)
            if now.keys() == before.keys() and all(now[pod] != before[pod] for pod in now):
                break
    assert await idle.ask("GET", "/books", {"Host": "books.test"}) == 200
    return now


async def test_a_hundred_edits_fail_no_allowed_request(mesh: Mesh, manifests: Path) -> None:
    """Neither on new connections nor on kept ones, busy or idle, HTTP or TCP; and each edit is enforced."""
    churn, listener = manifests / "churn.yaml", mesh.listener("traffic-0", WEBAPP)
    versions, seen = await _versions(mesh), set[str]()
    assert len(versions) == 5
    try:
        async with (
            asyncio.timeout(CHURN_SECONDS),
            kept(listener) as idle,
            kept(mesh.listener("books-0", PRIMARY)) as database,
            hammering(mesh) as traffic,
        ):
            for edit in range(EDITS):
                churn.write_text(POLICY.format(edit=edit))
                versions = await _until_replaced(mesh, versions, idle)
                seen.add(versions["books/webapp-0"])
                assert (await http(listener, "GET", f"/churn-{edit}")).status == 403
                assert await database.query("ALL authors")
                assert not traffic.failed
    finally:
        churn.unlink(missing_ok=True)
    assert not traffic.failed
    assert len(seen) == EDITS
    assert traffic.answered > EDITS


async def test_a_tcp_connection_is_cut_and_another_of_the_same_proxy_stays(
    mesh: Mesh, manifests: Path
) -> None:
    database = manifests / "database.yaml"
    text = database.read_text()
    grant = "    - {kind: ServiceAccount, name: books}\n---"
    assert text.count(grant) == 1
    async with (
        kept(mesh.listener("books-0", PRIMARY)) as losing,
        kept(mesh.listener("books-0", REPLICA)) as staying,
    ):
        assert await losing.query("ALL books")
        assert await staying.query("ALL books")
        try:
            database.write_text(text.replace(grant, "    - {kind: ServiceAccount, name: nobody}\n---"))
            began = time.monotonic()
            assert await asyncio.wait_for(losing.reader.read(), CUT_SECONDS) == b""
            assert time.monotonic() - began < CUT_SECONDS
            record = await mesh.denial_that(pod="database-0", detail="cut")
            assert (record["port"], record["reason"]) == (5432, "no_matching_rule")
            assert record["peer"]["identity"].endswith("/ns/books/sa/books")
            assert await staying.query("ALL books")
        finally:
            database.write_text(text)
        assert await staying.query("ALL books")
