"""gRPC through both proxies to three replicas: each call finds its own, on one connection to each."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from .greeter import MANIFEST, SERVICE, way
from .http2 import ask, head
from .mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAY, CHAT, REPEAT = "/books.Greeter/Say", "/books.Greeter/Chat", "/books.Greeter/Repeat"
GATHER, SLEEP, PRIVATE = "/books.Greeter/Gather", "/books.Greeter/Sleep", "/books.Greeter/Private"
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
MESSAGE = b"\x00\x00\x00\x00\x02hi"
REPLICAS = ("greeter-0", "greeter-1", "greeter-2")
CLIENTS = 8
SECONDS = 10.0


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with three greeters among them."""
    text = MANIFEST.replace("replicas: 1", f"replicas: {len(REPLICAS)}")
    assert text != MANIFEST
    (manifests / "greeter.yaml").write_text(text)
    return manifests


@asynccontextmanager
async def _channel(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    """What the application of `traffic` has open to its own proxy."""
    at = way(mesh, "outbound")
    async with grpc.aio.insecure_channel(f"{at.host}:{at.port}") as channel:
        yield channel


async def _chatting(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """A stream in both directions, as soon as it is granted."""
    async with asyncio.timeout(SECONDS):
        while True:
            chat = channel.stream_stream(CHAT)(timeout=60)
            try:
                await chat.write(b"one")
                assert await chat.read() == b"one"
                return chat
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # grpcio has several words for a call that ended before its first message was written


async def _greeter(channel: grpc.aio.Channel) -> str:
    """Who answers a call."""
    call = channel.unary_unary(SAY)(b"hi", timeout=SECONDS)
    assert await call == b"hi"
    return str(dict(await call.trailing_metadata())["greeter"])


async def test_the_calls_of_one_channel_are_spread_over_all_replicas(mesh: Mesh) -> None:
    async with _channel(mesh) as channel:
        found: Counter[str] = Counter()
        for _ in range(15):
            found.update(await asyncio.gather(*(_greeter(channel) for _ in range(20))))
        assert set(found) == {mesh.pod(name).addresses.application for name in REPLICAS}
        assert min(found.values()) > found.total() / 10, found
        assert await mesh.metric("traffic-0", "policyd_outbound_shared_open") == len(REPLICAS)
        assert await mesh.metric("traffic-0", "policyd_outbound_in_flight") == 0


async def test_every_kind_of_call_passes_whole(mesh: Mesh) -> None:
    big = bytes(range(256)) * 4_000

    async def messages() -> AsyncIterator[bytes]:
        for part in (b"one", big, b"three"):
            yield part

    async with _channel(mesh) as channel:
        assert await channel.unary_unary(SAY)(big, timeout=SECONDS) == big
        repeated = channel.unary_stream(REPEAT)(big[:50_000], timeout=SECONDS)
        assert [part async for part in repeated] == [big[:50_000]] * 100
        assert "greeter" in dict(await repeated.trailing_metadata())
        assert await channel.stream_unary(GATHER)(messages(), timeout=SECONDS) == b"one" + big + b"three"
        chat = channel.stream_stream(CHAT)(timeout=SECONDS)
        for message in (b"one", big, b"three"):
            await chat.write(message)
            assert await chat.read() == message
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is grpc.StatusCode.OK


async def test_a_reader_that_rests_gets_all_of_it_later(mesh: Mesh) -> None:
    part = b"x" * 200_000
    async with _channel(mesh) as channel:
        resting = [channel.unary_stream(REPEAT)(part, timeout=60) for _ in range(10)]
        for call in resting:
            assert await call.read() == part
        # Nothing is read of them now, and others go on.
        assert len(await asyncio.gather(*(_greeter(channel) for _ in range(30)))) == 30
        for call in resting:
            for _ in range(99):
                assert await call.read() == part
            assert await call.read() is grpc.aio.EOF


async def test_what_the_other_proxy_refuses_is_refused_in_its_words(mesh: Mesh) -> None:
    async with _channel(mesh) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/books.Greeter/Other")(b"hi", timeout=SECONDS)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        fields = dict([*refused.value.initial_metadata(), *refused.value.trailing_metadata()])
        record = await mesh.denial(str(fields["x-policyd-decision"]))
        assert (record["reason"], record["direction"]) == ("no_route", "inbound")
        assert record["peer"]["identity"].endswith("/ns/books/sa/traffic")
        assert await channel.unary_unary(PRIVATE)(b"hi", timeout=SECONDS) == b"hi"


async def test_gr_04_a_deadline_and_a_cancelled_call_end_the_work_behind_them(mesh: Mesh) -> None:
    async with _channel(mesh) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as over:
            await channel.unary_unary(SLEEP)(b"hi", timeout=0.3)
        assert over.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        call = channel.unary_unary(SLEEP)(b"hi", timeout=60)
        await mesh.until_metric("traffic-0", "policyd_outbound_in_flight", 1)
        call.cancel()
        for pod in REPLICAS:
            await mesh.until_metric(pod, "policyd_requests_in_flight", 0)
    await mesh.until_metric("traffic-0", "policyd_outbound_in_flight", 0)
    # What nobody tells the proxy's own clock, the call itself does.
    fields = head("POST", SLEEP, *GRPC, ("grpc-timeout", "200m"))
    answer = await ask(way(mesh, "outbound"), fields, MESSAGE)
    assert (answer.status, answer.headers["grpc-status"]) == (200, "4")


async def test_another_client_of_http2_is_served_and_what_is_ambiguous_is_not(mesh: Mesh) -> None:
    at = way(mesh, "outbound")
    answer = await ask(at, head("POST", SAY, *GRPC), MESSAGE)
    assert (answer.body, answer.trailers["grpc-status"]) == (MESSAGE, "0")
    odd = await ask(at, head("POST", SAY, ("host", "else.test"), *GRPC), MESSAGE)
    assert odd.reset == 1 or odd.headers["grpc-status"] == "3", odd


async def test_l4_20_a_replica_that_is_killed_fails_what_it_had_and_nothing_else(mesh: Mesh) -> None:
    """Not on grpcio: its threads don't bear that a proxy is started again beside them."""
    proxy = mesh.pod("greeter-1").proxy
    failed: list[str] = []
    done = 0

    async def client() -> None:
        nonlocal done
        while True:
            answer = await ask(way(mesh, "outbound"), head("POST", SAY, *GRPC), MESSAGE)
            status = answer.trailers.get("grpc-status") or answer.headers.get("grpc-status", "none")
            if status != "0":
                failed.append(status)
            done += 1

    async def more(count: int) -> None:
        until = done + count
        async with asyncio.timeout(60):
            while done < until:
                await asyncio.sleep(0.01)  # calls have no event that another task could wait for

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    try:
        await more(100)
        before = proxy.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await more(300)
    finally:
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    assert len(failed) <= CLIENTS, failed
    assert set(failed) <= {"14"}, "unavailable, and nothing else"
    await mesh.up.all_ready(30)


@pytest.mark.promise("P-3")
async def test_gr_03_a_stream_whose_grant_is_gone_ends_through_both_proxies(
    mesh: Mesh, manifests: Path
) -> None:
    file = manifests / "greeter.yaml"
    text = file.read_text()
    async with _channel(mesh) as channel:
        chat = await _chatting(channel)
        file.write_text(text.replace("name: greeter-chat}", "name: greeter-open}"))
        began = time.monotonic()
        try:
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                async with asyncio.timeout(SECONDS):
                    await chat.read()
            assert time.monotonic() - began < 5
            assert cut.value.code() is grpc.StatusCode.PERMISSION_DENIED
            fields = dict(cut.value.trailing_metadata())
            assert (await mesh.denial(str(fields["x-policyd-decision"])))["detail"] == "cut"
            assert await channel.unary_unary(SAY)(b"hi", timeout=SECONDS) == b"hi"
        finally:
            file.write_text(text)


@pytest.mark.promise("P-3")
async def test_i9_a_stream_ends_here_when_its_endpoint_is_revoked(mesh: Mesh, manifests: Path) -> None:
    """The caller's side hears of it as well, and doesn't wait for the other's."""
    file = manifests / "namespace.yaml"
    text = file.read_text()
    identity = f"spiffe://{mesh.up.trust_domain}/ns/books/sa/greeter"
    revoked = text.replace("spec:\n", f'spec:\n  revoked: [{{identity: "{identity}"}}]\n', 1)
    async with _channel(mesh) as channel:
        chat = await _chatting(channel)
        try:
            file.write_text(revoked)
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                async with asyncio.timeout(SECONDS):
                    await chat.read()
            assert time.monotonic() - began < 5
            assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
            fields = dict(cut.value.trailing_metadata())
            record = await mesh.denial(str(fields["x-policyd-decision"]))
            assert (record["reason"], record["direction"], record["service"]) == (
                "peer_rejected",
                "outbound",
                SERVICE,
            )
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await channel.unary_unary(SAY)(b"hi", timeout=SECONDS)
            assert denied.value.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            file.write_text(text)
