"""The client against a real server on loopback: bounds, retries, what it sends."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
from aiohttp import web

from kubeapi.access import Access
from kubeapi.client import MOST_ATTEMPTS, Client, Request
from kubeapi.credentials import Credentials
from kubeapi.errors import UNUSABLE, ApiError
from kubeapi.path import ResourcePath
from tests.unit.kubeapi.small_server import Server, say, status

PODS = ResourcePath("", "v1", "pods")
SERVERS = ResourcePath("policyd.dev", "v1alpha1", "servers", "emojivoto")


def test_paths() -> None:
    assert PODS.url() == "/api/v1/pods"
    assert SERVERS.url("web") == "/apis/policyd.dev/v1alpha1/namespaces/emojivoto/servers/web"
    assert SERVERS.url("a b?c", "status").endswith("/servers/a%20b%3Fc/status")
    for name in ("", ".", "..", "../secrets", "a/b"):
        with pytest.raises(ValueError, match="expected one segment"):
            SERVERS.url(name)


async def test_get_says_who_we_are_and_reads_into_a_struct(server: Server) -> None:
    class Named(msgspec.Struct):
        kind: str

    server.answers = [say(body={"kind": "Pod", "metadata": {}})]
    async with Client(server.access(), "test") as client:
        assert (await client.get(PODS, "a")).into(Named).kind == "Pod"
    assert server.asked[0].headers["Authorization"] == "Bearer one"
    assert server.asked[0].path == "/api/v1/pods/a"


async def test_apply_names_the_manager_and_forces(server: Server) -> None:
    async with Client(server.access(), "policyd-test") as client:
        await client.apply(SERVERS, "web", {"spec": {"port": 80}}, subresource="status")
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("PATCH", SERVERS.url("web", "status"))
    assert asked.query == {"fieldManager": "policyd-test", "force": "true"}
    assert asked.headers["Content-Type"] == "application/apply-patch+yaml"
    assert json.loads(asked.body) == {"spec": {"port": 80}}


async def test_create_patch_and_delete(server: Server) -> None:
    async with Client(server.access(), "m") as client:
        await client.create(SERVERS, {"a": 1})
        await client.create(ResourcePath("", "v1", "serviceaccounts", "ns"), {}, ("web", "token"))
        await client.merge(SERVERS, "web", {"b": 1})
        await client.patch(SERVERS, "web", [{"op": "test", "path": "/a", "value": 1}])
        await client.replace(SERVERS, "web", {"c": 1})
        await client.delete(SERVERS, "web")
    assert [(each.method, each.headers.get("Content-Type")) for each in server.asked] == [
        ("POST", "application/json"),
        ("POST", "application/json"),
        ("PATCH", "application/merge-patch+json"),
        ("PATCH", "application/json-patch+json"),
        ("PUT", "application/json"),
        ("DELETE", None),
    ]
    assert server.asked[1].path == "/api/v1/namespaces/ns/serviceaccounts/web/token"


async def test_refusals_have_status_reason_and_message(server: Server) -> None:
    server.answers = [
        say(404, status(404, "NotFound", 'pods "a" not found')),
        say(500, b"<html>oops"),
        say(409, status(409, "Conflict", "changed")),
        say(302, b"", {"Location": "http://127.0.0.1:1/"}),
    ]
    async with Client(server.access(), "m") as client:
        seen = []
        for _ in range(4):
            with pytest.raises(ApiError) as raised:
                await client.get(PODS, "a")
            seen.append(raised.value)
    assert [each.status for each in seen] == [404, 500, 409, 302]
    assert (seen[0].reason, seen[0].not_found) == ("NotFound", True)
    assert (seen[1].reason, seen[1].message) == ("HTTP500", "<html>oops")
    assert seen[2].conflict


async def test_nobody_listens() -> None:
    async with Client(Access(lambda: Credentials("http://127.0.0.1:9")), "m") as client:
        with pytest.raises(ApiError, match=r"127\.0\.0\.1:9") as raised:
            await client.get(PODS, "a")
    assert raised.value.unreachable


async def test_ct_02_an_answer_that_says_when_is_asked_again(server: Server) -> None:
    busy = status(429, "TooManyRequests", "slow down")
    server.answers = [say(429, busy, {"Retry-After": "1"}), say(503, b"", {"Retry-After": "0"}), say()]
    began = time.monotonic()
    async with Client(server.access(), "m") as client:
        with pytest.raises(ApiError):  # a Retry-After of 0 says nothing
            await client.create(SERVERS, {})
    assert time.monotonic() - began >= 1.0
    assert len(server.asked) == 2


async def test_ct_02_too_many_refusals_are_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeapi.client.MOST_RETRY_AFTER", 0.01)
    server.answers = [say(429, status(429, "TooManyRequests", "slow down"), {"Retry-After": "3600"})]
    async with Client(server.access(), "m") as client:
        with pytest.raises(ApiError) as raised:
            await client.get(PODS, "a")
    assert raised.value.retry_after == 3600
    assert len(server.asked) == MOST_ATTEMPTS


async def test_ct_02_a_rotated_token_is_read_again_at_once(server: Server) -> None:
    tokens = iter(["Bearer old", "Bearer new"])
    server.answers = [say(401, status(401, "Unauthorized", "Unauthorized")), say()]
    access = server.access(lambda: Credentials(server.url, next(tokens)))
    async with Client(access, "m") as client:
        await access.current()
        access._read_at -= 5.0  # read a while ago
        await client.get(PODS, "a")
    assert [each.headers["Authorization"] for each in server.asked] == ["Bearer old", "Bearer new"]


async def test_a_token_that_is_refused_and_the_same_is_not_tried_for_ever(server: Server) -> None:
    server.answers = [say(401, status(401, "Unauthorized", "Unauthorized"))]
    async with Client(server.access(), "m") as client:
        with pytest.raises(ApiError) as raised:
            await client.get(PODS, "a")
    assert raised.value.not_allowed
    assert len(server.asked) == 1


async def test_answers_are_bounded(server: Server) -> None:
    server.answers = [say(body=b"x" * 4096)]
    async with Client(server.access(), "m") as client:
        with pytest.raises(ApiError, match="more than 1000 bytes"):
            await client.send(Request("GET", "/api/v1/pods", {}, most_bytes=1000))


async def test_lists_come_in_pages_and_long_pages_in_smaller_ones(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeapi.client.MOST_PAGE_BYTES", 10_000)

    async def page(request: web.Request) -> web.StreamResponse:
        first = int(request.query.get("continue", "0"))
        last = min(700, first + int(request.query["limit"]))
        meta = {"resourceVersion": "7", **({"continue": str(last)} if last < 700 else {})}
        return web.json_response({"metadata": meta, "items": [f"{each:060}" for each in range(first, last)]})

    server.answers = [page]
    items: list[int] = []
    async with Client(server.access(), "m") as client:
        async for answer in client.pages(PODS, {"resourceVersion": "0"}):
            items += [int(each) for each in answer.json()["items"]]
    assert items == list(range(700))
    assert all("resourceVersion" not in each.query for each in server.asked if "continue" in each.query)


async def test_a_watch_gives_lines_however_they_are_cut(server: Server) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b'{"a":', b'1}\n{"b":2}\n{"c"', b":3}\n", b'{"cut off'):
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    server.answers = [stream]
    async with (
        Client(server.access(), "m") as client,
        client.watch(PODS, {"resourceVersion": "1"}, silence=5, longest=10) as lines,
    ):
        seen = [line async for line in lines]
    assert seen == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    assert server.asked[0].query == {"resourceVersion": "1", "watch": "1"}


async def test_a_line_without_end_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeapi.client.MOST_LINE_BYTES", 100_000)
    server.answers = [say(body=b"x" * 1_000_000)]
    async with Client(server.access(), "m") as client:
        with pytest.raises(ApiError) as raised:
            async with client.watch(PODS, {}, silence=5, longest=10) as lines:
                [line async for line in lines]
    assert raised.value.reason == UNUSABLE


async def test_ct_03_a_silent_watch_ends(server: Server) -> None:
    async def stall(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"a":1}\n')
        await asyncio.sleep(30)
        return response

    server.answers = [stall]
    seen: list[bytes] = []
    began = time.monotonic()
    async with Client(server.access(), "m") as client:
        with pytest.raises(ApiError) as raised:
            async with client.watch(PODS, {}, silence=0.3, longest=60) as lines:
                seen.extend([line async for line in lines])
    assert raised.value.unreachable
    assert time.monotonic() - began < 10
