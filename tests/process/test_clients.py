"""Clients that aren't ours, honest and hostile, on every way to an application that tells what it saw."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
from h2.errors import ErrorCodes

from . import http2
from .mesh import WAIT_SECONDS, Mesh, exchange, http, unchunked
from .witness import MANIFEST, PORT, WAYS, Way, statuses, way

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = "books.test"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: books.test\r\n\r\n"


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with a witness among them."""
    (manifests / "witness.yaml").write_text(MANIFEST)
    return manifests


async def _seen(mesh: Mesh) -> list[str]:
    """What reached the witness since it was last asked."""
    address = mesh.address("witness-0", PORT)
    answer = await http(address, "GET", "/seen")
    assert (answer.status, (await http(address, "POST", "/forget")).status) == (200, 200)
    seen: list[str] = json.loads(answer.body)
    return seen


class Client:
    """A conversation of h11's with whoever is at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connection = h11.Connection(h11.CLIENT)

    async def send(self, *events: h11.Event) -> None:
        for event in events:
            self.writer.write(self.connection.send(event) or b"")
        await self.writer.drain()

    async def next(self) -> Any:
        """The next event, within bounds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (event := self.connection.next_event()) is h11.NEED_DATA:
                self.connection.receive_data(await self.reader.read(65536))
        return event

    async def answer(self) -> tuple[h11.Response, bytes]:
        """A whole answer; the conversation is then ready for another request, if it can be."""
        response, body = await self.next(), b""
        assert isinstance(response, h11.Response), response
        while isinstance(event := await self.next(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        if self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE:
            self.connection.start_next_cycle()
        return response, body


@asynccontextmanager
async def _client(at: Way) -> AsyncIterator[Client]:
    name = "any.test" if at.context else None
    reader, writer = await asyncio.open_connection(at.host, at.port, ssl=at.context, server_hostname=name)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def _request(method: str, target: str, *headers: tuple[str, str]) -> h11.Request:
    return h11.Request(method=method, target=target, headers=[("Host", HOST), *headers])


@pytest.mark.parametrize("by", WAYS)
async def test_h11_keeps_a_connection_for_many_requests(mesh: Mesh, by: str) -> None:
    async with _client(way(mesh, by)) as client:
        for number in range(5):
            await client.send(_request("GET", f"/{number}?a=b"), h11.EndOfMessage())
            response, body = await client.answer()
            told = json.loads(body)
            assert (response.status_code, told["target"]) == (200, f"/{number}?a=b")
            assert ["host", HOST] in told["headers"]
        await client.send(_request("HEAD", "/5"), h11.EndOfMessage())
        assert (await client.answer())[1] == b""
        await client.send(_request("GET", "/chunked"), h11.EndOfMessage())
        assert json.loads((await client.answer())[1])["target"] == "/chunked"


@pytest.mark.parametrize("by", WAYS)
async def test_h11_sends_chunks_and_they_arrive_as_one_body(mesh: Mesh, by: str) -> None:
    pieces = [b"a" * 10, b"b", b"c" * 70_000, b"\r\n0\r\n\r\n"]
    async with _client(way(mesh, by)) as client:
        for _ in range(2):
            data = [h11.Data(data=piece) for piece in pieces]
            await client.send(
                _request("POST", "/chunks", ("Transfer-Encoding", "chunked")), *data, h11.EndOfMessage()
            )
            response, body = await client.answer()
            assert response.status_code == 200
            assert json.loads(body)["body"].encode() == b"".join(pieces)


@pytest.mark.parametrize("by", ["plaintext", "mutual TLS"])
async def test_h11_is_invited_to_send_its_body_once_it_is_allowed(mesh: Mesh, by: str) -> None:
    asking = (("Expect", "100-continue"), ("Content-Length", "5"))
    async with _client(way(mesh, by)) as client:
        await client.send(_request("POST", "/late", *asking))
        invited = await client.next()
        assert isinstance(invited, h11.InformationalResponse)
        assert invited.status_code == 100
        await client.send(h11.Data(data=b"hello"), h11.EndOfMessage())
        assert json.loads((await client.answer())[1])["body"] == "hello"
        await client.send(_request("POST", "/internal", *asking))
        denied, _ = await client.answer()  # no invitation in front of it
        assert denied.status_code == 403


@pytest.mark.parametrize("by", WAYS)
async def test_h11_may_ask_again_after_it_was_denied(mesh: Mesh, by: str) -> None:
    """What belongs to a denied request is read and dropped, so that the next one is the next one."""
    await _seen(mesh)
    length, chunks = ("Content-Length", str(len(SMUGGLED))), ("Transfer-Encoding", "chunked")
    body = h11.Data(data=SMUGGLED)
    posts = [((), ()), ((length,), (body,)), ((chunks,), (body, body))]
    async with _client(way(mesh, by)) as client:
        for number, (pause, (headers, data)) in enumerate(itertools.product([0, 0.1], posts)):
            await client.send(_request("POST", "/internal", *headers))
            await asyncio.sleep(pause)  # The refusal may well be there before the body is.
            await client.send(*data, h11.EndOfMessage())
            denied, _ = await client.answer()
            assert (denied.status_code, dict(denied.headers).get(b"connection")) == (403, None)
            await client.send(_request("GET", f"/{number}"), h11.EndOfMessage())
            assert (await client.answer())[0].status_code == 200
    assert await _seen(mesh) == [f"GET /{number}" for number in range(6)]


@pytest.mark.parametrize("by", WAYS)
async def test_httpx_keeps_and_streams_and_is_told_why_not(mesh: Mesh, by: str) -> None:
    at = way(mesh, by)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(20):
            yield b"%d" % number * 1000

    scheme = "https" if at.context else "http"
    async with httpx.AsyncClient(
        base_url=f"{scheme}://{at.host}:{at.port}",
        verify=at.context or False,
        trust_env=False,
        timeout=WAIT_SECONDS,
    ) as client:
        own_name = f"witness.books.sa.{mesh.up.trust_domain}"
        name = {"sni_hostname": own_name}  # where it is our TLS that httpx speaks
        answer = await client.post("/json", json={"a": [1, 2]}, extensions=name)
        assert (answer.status_code, json.loads(answer.json()["body"])) == (200, {"a": [1, 2]})
        answer = await client.post("/stream", content=pieces(), extensions=name)
        assert len(answer.json()["body"]) == 30_000
        denied = await client.get("/internal/x", extensions=name)
        assert (denied.status_code, denied.json()["reason"]) == (403, "denied")
    record = await mesh.denial(denied.headers["x-policyd-decision"])
    assert record["reason"] == "explicit_deny"
    caller = None if by == "plaintext" else f"spiffe://{mesh.up.trust_domain}/ns/books/sa/traffic"
    assert record["peer"]["identity"] == caller


def _head(*lines: str, first: str = "GET /hostile HTTP/1.1", host: str = "Host: books.test") -> bytes:
    return "\r\n".join([first, *([host] if host else []), *lines, "", ""]).encode("latin-1")


HOSTILE: dict[str, tuple[str, bytes]] = {
    "length and chunks": (
        "G8",
        _head("Content-Length: 4", "Transfer-Encoding: chunked", first="POST /hostile HTTP/1.1")
        + b"0\r\n\r\n",
    ),
    "chunks and length": (
        "G8",
        _head("Transfer-Encoding: chunked", "Content-Length: 4", first="POST /hostile HTTP/1.1")
        + b"0\r\n\r\n",
    ),
    "two lengths": ("G8", _head("Content-Length: 0", "Content-Length: 44")),
    "a signed length": ("G8", _head("Content-Length: +44")),
    "a list of codings": ("G8", _head("Transfer-Encoding: identity, chunked")),
    "a coding in disguise": ("G11", _head("Transfer_Encoding: chunked", "Content-Length: 44")),
    "a blank before the colon": ("G11", _head("Transfer-Encoding : chunked")),
    "a folded line": ("G11", _head("X-A: b", " Content-Length: 44")),
    "bare line feeds": ("G9", b"GET /hostile HTTP/1.1\nHost: books.test\n\n"),
    "one bare line feed": ("G9", b"GET /hostile HTTP/1.1\r\nHost: books.test\nX-A: b\r\n\r\n"),
    "a bare carriage return": ("G9", _head("X-A: b\rContent-Length: 44")),
    "a NUL in a value": ("G12", _head("X-A: b\0c")),
    "two hosts": ("G1", _head("Host: other.test")),
    "the same host twice": ("G1", _head("Host: books.test")),
    "no host": ("G1", _head(host="")),
    "a host with a user": ("G1", _head(host="Host: books.test@other.test")),
    "another authority in the target": ("G1", _head(first="GET http://other.test/hostile HTTP/1.1")),
    "a target without a slash": ("G3", _head(first="GET hostile HTTP/1.1")),
    "a fragment": ("G3", _head(first="GET /hostile#x HTTP/1.1")),
    "CONNECT": ("G3", _head(first="CONNECT books.test:80 HTTP/1.1")),
    "a bad triplet": ("G4", _head(first="GET /hostile%zz HTTP/1.1")),
    "a way up": ("G5", _head(first="GET /hostile/../internal HTTP/1.1")),
    "an encoded way up": ("G5", _head(first="GET /hostile/%2e%2e/internal HTTP/1.1")),
    "an encoded slash": ("G5", _head(first="GET /hostile%2Finternal HTTP/1.1")),
    "an empty segment": ("G5", _head(first="GET //internal HTTP/1.1")),
    "a length named by Connection": ("G14", _head("Connection: content-length", "Content-Length: 44")),
    "TRACE": ("G17", _head(first="TRACE /hostile HTTP/1.1")),
    "a lower-case method": ("G17", _head(first="get /hostile HTTP/1.1")),
    "HTTP/1.2": ("G18", _head(first="GET /hostile HTTP/1.2")),
    "another expectation": ("G19", _head("Expect: y 100-continue", "Content-Length: 44")),
    "a long value": ("limits", _head("X-A: " + "b" * 20_000)),
    "many fields": ("limits", _head(*["X-A: b"] * 200)),
}


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_head_is_answered_recorded_and_reaches_nobody(mesh: Mesh, what: str, by: str) -> None:
    """`exchange` returns once the other end has closed; whatever follows the head is nobody's request."""
    await _seen(mesh)
    rule, head = HOSTILE[what]
    at = way(mesh, by)
    received = await exchange(at.host, at.port, head + SMUGGLED, at.context)
    assert statuses(received) == [400], received
    fields, _, body = received.partition(b"\r\n\r\n")
    (decision,) = _values(fields, b"x-policyd-decision")
    if _values(fields, b"transfer-encoding"):
        body = unchunked(body)
    assert json.loads(body) == {"decision": decision, "reason": "bad_request"}
    record = await mesh.denial(decision)
    assert (record["verdict"], record["reason"]) == ("deny", f"invalid_request:{rule}")
    assert (record["status"], record["gate"]["rule"], record["request"]) == (400, rule, None)
    assert record["pod"] == "witness-0"
    assert (record["peer"]["identity"] is None) == (by == "plaintext")
    assert await _seen(mesh) == []


def _values(fields: bytes, name: bytes) -> Sequence[str]:
    lines = (line.partition(b":") for line in fields.split(b"\r\n")[1:])
    return [value.strip().decode() for key, _, value in lines if key.lower() == name]


BROKEN_BODIES = [
    b"0x5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\r\nhelloXX",
]


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("body", BROKEN_BODIES)
async def test_a_broken_chunk_ends_the_request_and_starts_no_other(mesh: Mesh, body: bytes, by: str) -> None:
    await _seen(mesh)
    head = _head("Transfer-Encoding: chunked", first="POST /broken HTTP/1.1")
    at = way(mesh, by)
    received = await exchange(at.host, at.port, head + body + b"0\r\n\r\n" + SMUGGLED, at.context)
    assert statuses(received) in ([], [400], [502]), received
    seen = await _seen(mesh)
    assert [each for each in seen if not each.startswith("no HTTP: ")] == [], seen


@pytest.mark.parametrize("by", WAYS)
async def test_nothing_after_a_denied_request_is_read(mesh: Mesh, by: str) -> None:
    await _seen(mesh)
    allowed = _head(first="GET /allowed HTTP/1.1")
    denied = _head(f"Content-Length: {len(SMUGGLED)}", first="POST /internal HTTP/1.1")
    at = way(mesh, by)
    received = await exchange(at.host, at.port, allowed + denied + SMUGGLED + SMUGGLED, at.context)
    assert statuses(received) == [200, 403], received
    assert await _seen(mesh) == ["GET /allowed"]


@pytest.mark.parametrize("by", ["plaintext", "mutual TLS"])
async def test_http2_to_an_application_that_speaks_none_is_a_bad_gateway(mesh: Mesh, by: str) -> None:
    """Prior knowledge, as h2 speaks it, is passed on as such; the witness doesn't know what it is."""
    await _seen(mesh)
    answer = await http2.ask(way(mesh, by), http2.head("GET", "/h2"))
    assert (answer.status, json.loads(answer.body)["reason"]) == (502, "unavailable")
    assert not any("/h2" in each for each in await _seen(mesh))


async def test_http2_where_only_http1_is_served_is_reset_and_recorded(mesh: Mesh) -> None:
    at = Way(*mesh.address("authors-0", 7001))
    answer = await http2.ask(at, http2.head("GET", "/authors"))
    assert (answer.status, answer.reset) == (0, ErrorCodes.HTTP_1_1_REQUIRED)
    record = await mesh.denial_that(pod="authors-0", reason="protocol_refused")
    assert (record["verdict"], record["status"], record["request"]["version"]) == ("deny", None, "2")
