"""policyd and proxies of different versions (promise P-16): nobody allows what either would refuse."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from policyd import engine
from policyd.up.process import Child
from policyd.up.up_socket import ask_socket
from policyd_api.v1 import stream_pb2 as wire
from policyd_api.v1.stream_grpc import PolicyStreamStub

from . import quick
from .audit_client import policyd_channel
from .instead import instead
from .load import Way, ask, loading
from .mesh import WAIT_SECONDS, Mesh, http
from .test_audit_trail import policyctl

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("P-16")]

NEWER = Path(__file__).parent / "newer_policyd.py"
QUERY = """\
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: quick-query, namespace: books}
spec:
  action: Deny
  targetRef: {group: policyd.dev, kind: Server, name: quick-http}
  requiredAuthenticationRefs: []
  when:
    - query: {name: secret, exists: true}
"""


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one, and a rule that version 2 brought, on trial."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST + QUERY)
    return manifests


async def _statuses(mesh: Mesh) -> tuple[int, int, int]:
    """Of a request that is allowed, of one with the query that is denied, of one to somebody else."""
    at = mesh.address("quick-0", quick.PORT)
    books = await http(mesh.listener("traffic-0", "books/webapp:80"), "GET", "/books")
    return (
        (await http(at, "GET", "/open/1")).status,
        (await http(at, "GET", "/open/1?secret=1")).status,
        books.status,
    )


async def _proxy(mesh: Mesh, pod: str, **wanted: object) -> dict[str, Any]:
    """What policyd says of a pod's proxy, as soon as it says that."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                status = await ask_socket(mesh.up.control_plane.status_socket, {"ask": "status"})
            except (OSError, ValueError):
                status = {"proxies": []}
            for proxy in status["proxies"]:
                if proxy["pod"] == pod and all(proxy[name] == value for name, value in wanted.items()):
                    return dict(proxy)
            await asyncio.sleep(0.02)  # the socket has no way to wait


@asynccontextmanager
async def _newer(mesh: Mesh, **environment: str) -> AsyncIterator[Child]:
    policyd = mesh.up.control_plane.child("policyd")
    words = [sys.executable, str(NEWER), *policyd.command.words[-2:]]
    python_path = os.pathsep.join([str(NEWER.parents[2]), os.environ.get("PYTHONPATH", "")])
    async with instead(policyd, words, {"PYTHONPATH": python_path, **environment}) as other:
        yield other


async def test_p_16_a_newer_policyd_writes_what_an_older_proxy_can_read_and_the_rest_refuses(
    mesh: Mesh,
) -> None:
    assert await _statuses(mesh) == (200, 403, 200)
    before = await _proxy(mesh, "books/quick-0", current=True)
    assert (before["narrowed"], before["readerVersion"]) == (0, engine.READER_VERSION)
    async with _newer(mesh):
        after = await _proxy(mesh, "books/quick-0", narrowed=1, state="enforcing", current=True)
        assert after["enforced"] not in {None, before["enforced"]}
        assert await _statuses(mesh) == (403, 403, 200)
        refused = await http(mesh.address("quick-0", quick.PORT), "GET", "/open/1")
        record = await mesh.denial(refused.decision)
        assert record["reason"] == "policy_unreadable"
        assert record["authorization"] == "authorizationpolicy.policyd.dev/books/quick-query"
        assert "too old (reads version 1): 1 rules refuse for it" in " ".join(
            (await policyctl("status", code=1)).split()
        )
    await _proxy(mesh, "books/quick-0", narrowed=0, state="enforcing", current=True)
    assert await _statuses(mesh) == (200, 403, 200)


async def test_p_16_a_table_above_its_version_is_refused_whole_and_policyd_says_so(mesh: Mesh) -> None:
    async with _newer(mesh, POLICYD_CARELESS="1"):
        refusing = await _proxy(mesh, "books/quick-0", state="refused")
        assert refusing["detail"].startswith("SNAPSHOT_UNSUPPORTED: ")
        assert "needs reader version 2, this is version 1" in refusing["detail"]
        assert refusing["enforced"] != refusing["wanted"]
        # The former table stays in force; whom the newer version concerns nothing, got their tables.
        assert await _statuses(mesh) == (200, 403, 200)
        assert (await _proxy(mesh, "books/webapp-0", current=True))["state"] == "enforcing"
        assert "SNAPSHOT_UNSUPPORTED" in await policyctl("status", "-o", "json", code=1)
    await _proxy(mesh, "books/quick-0", state="enforcing", current=True)


@pytest.mark.promise("P-11")
async def test_ct_15_an_upgrade_and_its_rollback_drop_nothing_and_allow_nothing_more(mesh: Mesh) -> None:
    """What both versions allow or deny goes on meanwhile; what only one of them would allow is denied."""
    same = tuple(each for each in quick.FRIENDS if each.right == 403)
    chain = Way("chain", mesh.listener("traffic-0", "books/webapp:80"), (ask("GET", "/books", 200),))
    at = mesh.address("quick-0", quick.PORT)
    async with asyncio.timeout(120), loading([quick.outbound(mesh, same), chain], 2, 0.01) as tally:
        for _ in range(2):
            async with _newer(mesh):
                await _proxy(mesh, "books/quick-0", narrowed=1, state="enforcing", current=True)
                assert (await http(at, "GET", "/open/1?secret=1")).status == 403
                await tally.reaches(tally.total + 50)
            await _proxy(mesh, "books/quick-0", narrowed=0, state="enforcing", current=True)
            assert (await http(at, "GET", "/open/1?secret=1")).status == 403
            await tally.reaches(tally.total + 50)
    assert not tally.wrong
    assert not tally.failed


@asynccontextmanager
async def _stream(mesh: Mesh, reader_version: int) -> AsyncIterator[Any]:
    """The policy stream as a proxy of that version has it, in the name of traffic-0."""
    channel = policyd_channel(mesh, mesh.svid("books/traffic", mesh.pod("traffic-0").uid))
    try:
        async with PolicyStreamStub(channel).Follow.open() as stream:
            hello = wire.Hello(reader_version=reader_version)
            await stream.send_message(wire.ProxyMessage(hello=hello))
            yield stream
            await stream.cancel()
    finally:
        channel.close()


async def _first(mesh: Mesh, reader_version: int) -> wire.ControllerMessage | None:
    """What is told first to a proxy of that version."""
    async with _stream(mesh, reader_version) as stream:
        message: wire.ControllerMessage | None = await asyncio.wait_for(stream.recv_message(), WAIT_SECONDS)
        if message is None:
            await stream.recv_trailing_metadata()
        return message


async def test_p_16_a_newer_proxy_gets_what_an_older_policyd_has(mesh: Mesh) -> None:
    enforced = (await _proxy(mesh, "books/traffic-0", current=True))["enforced"]
    message = await _first(mesh, 9)
    assert message is not None
    assert engine.version(message.assignment.snapshot) == enforced


async def test_p_16_a_proxy_older_than_any_is_told_nothing(mesh: Mesh) -> None:
    with pytest.raises(GRPCError, match="READER_TOO_OLD"):
        await _first(mesh, 0)
