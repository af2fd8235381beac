"""gRPC through a mesh: clients and a server on grpcio, frames of the h2 package; none of them ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from .greeter import MANIFEST, way
from .http2 import ask, head
from .mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAY, PRIVATE, CHAT = "/books.Greeter/Say", "/books.Greeter/Private", "/books.Greeter/Chat"
FAIL, SLEEP = "/books.Greeter/Fail", "/books.Greeter/Sleep"
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
MESSAGE = b"\x00\x00\x00\x00\x02hi"
SECONDS = 10.0


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with a greeter among them."""
    (manifests / "greeter.yaml").write_text(MANIFEST)
    return manifests


@asynccontextmanager
async def _channel(mesh: Mesh, by: str) -> AsyncIterator[grpc.aio.Channel]:
    at = way(mesh, by)
    async with grpc.aio.insecure_channel(f"{at.host}:{at.port}") as channel:
        yield channel


async def _denied(channel: grpc.aio.Channel, method: str) -> tuple[grpc.StatusCode, str]:
    """How a call is refused: its status, and the id of the decision."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await channel.unary_unary(method)(b"hi", timeout=SECONDS)
    fields = dict([*refused.value.initial_metadata(), *refused.value.trailing_metadata()])
    return refused.value.code(), str(fields.get("x-policyd-decision", ""))


@pytest.mark.parametrize("by", ["plaintext", "outbound"])
async def test_calls_are_answered_with_their_metadata(mesh: Mesh, by: str) -> None:
    async with _channel(mesh, by) as channel:
        call = channel.unary_unary(SAY)(b"hi", timeout=SECONDS)
        assert await call == b"hi"
        assert dict(await call.trailing_metadata())["greeted-bin"] == b"\x00\xff"
        big = bytes(range(256)) * 8_000
        assert await channel.unary_unary(SAY)(big, timeout=SECONDS) == big


@pytest.mark.parametrize("by", ["plaintext", "outbound"])
async def test_a_stream_goes_both_ways(mesh: Mesh, by: str) -> None:
    async with _channel(mesh, by) as channel:
        chat = channel.stream_stream(CHAT)(timeout=SECONDS)
        for message in (b"one", b"two", b"three"):
            await chat.write(message)
            assert await chat.read() == message
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is grpc.StatusCode.OK


async def test_the_servers_own_status_passes(mesh: Mesh) -> None:
    async with _channel(mesh, "plaintext") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary(FAIL)(b"hi", timeout=SECONDS)
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details() == "not today: 100 %"


async def test_gr_02_each_call_is_decided_and_refused_in_words_of_grpc(mesh: Mesh) -> None:
    async with _channel(mesh, "plaintext") as channel:
        code, decision = await _denied(channel, PRIVATE)
        assert code is grpc.StatusCode.UNAUTHENTICATED
        record = await mesh.denial(decision)
        assert (record["reason"], record["grpcStatus"], record["status"]) == ("no_identity", 16, 200)
        assert (record["request"]["version"], record["request"]["path"]) == ("2", PRIVATE)
        # The same connection, another call.
        assert await channel.unary_unary(SAY)(b"hi", timeout=SECONDS) == b"hi"
    async with _channel(mesh, "outbound") as channel:
        assert await channel.unary_unary(PRIVATE)(b"hi", timeout=SECONDS) == b"hi"


@pytest.mark.parametrize(
    "method",
    [
        "/books.Greeter/say",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/books.Greeter/Other",
    ],
)
async def test_gr_08_what_no_route_names_is_not_found(mesh: Mesh, method: str) -> None:
    async with _channel(mesh, "outbound") as channel:
        code, decision = await _denied(channel, method)
        assert code is grpc.StatusCode.NOT_FOUND
        assert (await mesh.denial(decision))["reason"] == "no_route"


@pytest.mark.parametrize(
    "path", ["books.Greeter/Say", "//books.Greeter/Say", SAY + "/x", "/books.greeter/Say"]
)
async def test_gr_01_a_path_that_is_not_quite_a_methods_reaches_nobody(mesh: Mesh, path: str) -> None:
    answer = await ask(way(mesh, "plaintext"), head("POST", path, *GRPC), MESSAGE)
    # The h2 library resets what has no path at all; anything else is refused in words of gRPC.
    assert answer.reset == 1 or answer.headers["grpc-status"] in {"3", "5", "7"}, answer


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/json"])
async def test_gr_07_another_content_type_is_no_way_around(mesh: Mesh, kind: str) -> None:
    fields = head("POST", SAY, ("content-type", kind))
    answer = await ask(way(mesh, "plaintext"), fields, MESSAGE)
    assert answer.status == 403
    assert (await mesh.denial(answer.headers["x-policyd-decision"]))["reason"] == "protocol_refused"


async def test_gr_04_the_clients_deadline_ends_a_call(mesh: Mesh) -> None:
    fields = head("POST", SLEEP, *GRPC, ("grpc-timeout", "200m"))
    answer = await ask(way(mesh, "plaintext"), fields, MESSAGE)
    assert answer.headers["grpc-status"] == "4"
    endless = head("POST", SAY, *GRPC, ("grpc-timeout", "99999999H"))
    assert (await ask(way(mesh, "plaintext"), endless, MESSAGE)).trailers["grpc-status"] == "0"


async def test_mutual_tls_says_that_http2_is_inside(mesh: Mesh) -> None:
    answer = await ask(way(mesh, "mutual TLS"), head("POST", PRIVATE, *GRPC), MESSAGE)
    assert (answer.body, answer.trailers["grpc-status"]) == (MESSAGE, "0")


@pytest.mark.promise("P-3")
async def test_gr_03_a_stream_whose_grant_is_gone_ends_and_others_go_on(mesh: Mesh, manifests: Path) -> None:
    file = manifests / "greeter.yaml"
    async with _channel(mesh, "plaintext") as channel:
        chat = channel.stream_stream(CHAT)(timeout=60)
        await chat.write(b"one")
        assert await chat.read() == b"one"
        file.write_text(MANIFEST.replace("name: greeter-chat}", "name: greeter-open}"))
        began = time.monotonic()
        try:
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                async with asyncio.timeout(SECONDS):
                    await chat.read()
            assert time.monotonic() - began < 5
            assert cut.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert await channel.unary_unary(SAY)(b"hi", timeout=SECONDS) == b"hi"
        finally:
            file.write_text(MANIFEST)
