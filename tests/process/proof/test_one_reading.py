"""P-5: what was decided on is what every parser reads of what was forwarded; answers come as written.

Requests at random go through real proxies. What the proxy decided on is known from the engine's binding,
and of a share of them from the record of the same request with one header more that is denied. What arrived
is known from the application (h11, h2); the bytes that it got are then given to parsers that have nothing
to do with each other.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from contextlib import closing

import pytest

from tests.process.mesh import Mesh

from .at_random import Grammar, Sent, Sent2
from .parsers import Parser
from .reader import READ_BY_POLICY, Message, Read, way, written
from .readings import decided, misread, number_of, plain
from .senders import Http1, send2
from .tools import tell

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.promise("P-5")]

SEED = int(os.environ.get("POLICYD_SEED") or random.SystemRandom().randrange(2**32))
REQUESTS = int(os.environ.get("POLICYD_REQUESTS") or 600)
"""Of each way."""
AT_A_TIME = 4
RECORDED = 16
"""Of so many requests one is also sent so that it is denied, and its record compared."""


class Tally:
    """What came of the requests of one way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.lost: list[Read] = []
        self.differences: list[str] = []
        self.answered: dict[int, tuple[Message | None, Message]] = {}
        """By the answer's number: what was decided on, and the answer as the client read it."""

    def differs(self, what: str, *about: object) -> None:
        self.differences.append(f"{what}: " + "\n    ".join(repr(each)[:600] for each in about))

    def finish(self, started: float) -> None:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        tell(f"{self.name}: {counts}; seed {SEED}, {time.monotonic() - started:.1f} s")
        assert not self.differences, f"{len(self.differences)} differences, seed {SEED}:\n" + "\n".join(
            each[:1500] for each in self.differences[:5]
        )
        assert self.counts["unanswered though whole"] == 0
        assert len(self.lost) <= self.counts["unanswered"], self.lost
        assert self.counts["forwarded"] > REQUESTS / 4, "too few were forwarded to show anything"
        assert self.counts["refused"] > REQUESTS / 50, "too few were refused to show anything"


def first_head(sent: Sent) -> bytes:
    """The head as whoever reads up to the first empty line sees it."""
    whole = sent.head + sent.rest
    end = whole.find(b"\r\n\r\n")
    return whole[: end + 4] if end >= 0 else whole


def compare_decided(tally: Tally, read: Read, canonical: Message, body: bytes | None) -> None:
    """The application read what was decided on."""
    if read.request.first != canonical.first:
        tally.differs("first line", read.request.first, canonical.first)
    if plain(read.request.fields, readable=True) != plain(canonical.fields):
        tally.differs("fields", plain(read.request.fields), plain(canonical.fields))
    if body is not None and read.request.body != body:
        tally.differs("body", read.request.body, body)
    if read.left:
        tally.differs("bytes after the request", read)


def compare_answer(tally: Tally, read: Read, answer: Message) -> None:
    """The client read what the application wrote; of trailers those that may pass."""
    wrote = read.answer
    if (answer.first, answer.body) != (wrote.first, wrote.body):
        tally.differs("answer", answer, wrote)
    if plain(answer.fields) != plain(wrote.fields):
        tally.differs("fields of the answer", plain(answer.fields), plain(wrote.fields))
    if not set(answer.trailers) <= {pair for pair in wrote.trailers if pair[0] == b"etag"}:
        tally.differs("trailers of the answer", answer.trailers, wrote.trailers)


async def compare_record(mesh: Mesh, tally: Tally, answer: Message | None, canonical: Message) -> None:
    """The record of the denied twin says what was decided on."""
    ids = dict(answer.fields).get(b"x-policyd-decision") if answer else None
    if answer is None or ids is None or answer.first not in {(b"403",), (b"200",)}:
        tally.differs("a request that is to be denied", answer, canonical)
        return
    record = await mesh.denial(ids.decode())
    method, target, authority = (part.decode() for part in canonical.first)
    request = record["request"]
    if record["reason"] != "explicit_deny" or (request["method"], request["path"]) != (
        method,
        target.split("?")[0],
    ):
        tally.differs("recorded", record, canonical)
    if request["host"] != _host(authority):
        tally.differs("recorded host", request, authority)
    known = plain(pair for pair in canonical.fields if pair[0].decode() in READ_BY_POLICY)
    told = plain((name.encode(), value.encode()) for name, value in request["headers"] if name != "x-deny")
    if told != known:
        tally.differs("recorded headers", told, known)
    tally.counts["records compared"] += 1


def _host(authority: str) -> str:
    host, colon, port = authority.rpartition(":")
    return host if colon and port.isdigit() and not host.endswith(":") else authority


async def compare_all(
    mesh: Mesh, tally: Tally, parsers: dict[str, Parser], bodies: dict[int, bytes | None]
) -> None:
    """Everything the application read was decided on, and was answered to whom it was meant for."""
    reads, broken = await written(mesh)
    torn = ("peer closed connection", "peer unexpectedly closed", "Can't switch")
    for each in broken:
        if not any(word in each for word in torn):
            tally.differs("no HTTP to the application", each)
    for read in reads:
        if read.raw is not None:
            tally.counts["readings compared"] += len(parsers)
            tally.differences += await misread(parsers, read)
        if read.number not in tally.answered:
            tally.counts["read, answer lost"] += 1
            tally.lost.append(read)
            continue
        canonical, answer = tally.answered.pop(read.number)
        compare_answer(tally, read, answer)
        if canonical is None:
            tally.differs("the gate refuses it, and it was forwarded", read)
        else:
            compare_decided(tally, read, canonical, bodies[read.number])
    for number in tally.answered:
        tally.differs("an answer that nobody wrote", number)


@pytest.mark.parametrize("by", ["plaintext", "two proxies"])
async def test_p_5_http1_is_read_as_it_was_decided_on(
    mesh: Mesh, parsers: dict[str, Parser], by: str
) -> None:
    """HTTP/1.1 to HTTP/1.1; between two proxies it is carried as they like."""
    await written(mesh)
    tally, started, at = Tally(f"HTTP/1.1 by {by}"), time.monotonic(), way(mesh, by)
    grammar, bodies = Grammar(SEED), dict[int, bytes | None]()

    async def client() -> None:
        sender = Http1(at)
        while tally.counts["sent"] < REQUESTS:
            tally.counts["sent"] += 1
            sent = grammar.http1()
            canonical = decided(first_head(sent))
            answer = await sender.send(sent)
            if answer is None:
                tally.counts["unanswered" if sent.broken else "unanswered though whole"] += 1
            elif (number := number_of(answer)) is None:
                tally.counts[
                    "refused" if canonical is None else f"answered {int(answer.first[0])} by the proxy"
                ] += 1
                if not sent.broken and (canonical is not None or answer.first != (b"400",)):
                    tally.differs("proxy and engine differ", answer, canonical, sent.head)
            else:
                tally.counts["forwarded"] += 1
                tally.answered[number], bodies[number] = (canonical, answer), sent.body
                if number % RECORDED == 0 and canonical is not None and not sent.broken:
                    with closing(Http1(at)) as once:
                        denied = await once.send(sent.with_line(b"x-deny: 1"))
                    await compare_record(mesh, tally, denied, canonical)
        sender.close()

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    await compare_all(mesh, tally, parsers, bodies)
    tally.finish(started)


WAYS2 = [("plaintext", True), ("carried", False), ("two proxies", True)]
"""HTTP/2 to HTTP/2, HTTP/2 to HTTP/1.1 (what a proxy carries so), HTTP/2 through two proxies."""


@pytest.mark.parametrize(("by", "http2_application"), WAYS2)
async def test_p_5_http2_is_read_as_it_was_decided_on(
    mesh: Mesh, parsers: dict[str, Parser], by: str, http2_application: bool
) -> None:
    await written(mesh)
    tally, started = Tally(f"HTTP/2 by {by}"), time.monotonic()
    at = way(mesh, by, http2_application)
    grammar, bodies = Grammar(SEED), dict[int, bytes | None]()
    more = () if http2_application else ((b"x-policyd-version", b"1.1"),)

    async def client() -> None:
        while tally.counts["sent"] < REQUESTS:
            tally.counts["sent"] += 1
            sent = grammar.http2()
            answer = await send2(at, sent, more)
            number = number_of(answer) if answer else None
            if answer is None or number is None:
                tally.counts["refused"] += 1
                # A body that has its length is whole for the application before trailers are refused.
                tally.counts["unanswered"] += bool(sent.trailers)
            else:
                tally.counts["forwarded"] += 1
                canonical = decided(sent.as_head(), carried=by == "two proxies")
                tally.answered[number], bodies[number] = (canonical, answer), sent.body
                if number % RECORDED == 0 and canonical is not None:
                    denied = Sent2((*sent.fields, (b"x-deny", b"1")), sent.pieces, sent.trailers)
                    await compare_record(mesh, tally, await send2(at, denied, more), canonical)

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    await compare_all(mesh, tally, parsers, bodies)
    tally.finish(started)


async def test_p_5_a_difference_is_seen(parsers: dict[str, Parser]) -> None:
    """The counter-check: the comparison finds what it is made to find."""
    raw = b"POST /a HTTP/1.1\r\nhost: reader.test\r\nx-role: b\r\ncontent-length: 2\r\n\r\nhi"
    first, fields = (b"POST", b"/a", b"reader.test"), ((b"x-role", b"b"),)
    answer = Message((b"200",), (), b"")

    async def seen(request: Message, forwarded: bytes) -> int:
        return len(await misread(parsers, Read(1, request, forwarded, 0, answer)))

    read = Message(first, fields, b"hi")
    assert await seen(read, raw) == 0
    everybody = len(parsers)
    assert await seen(read, raw + raw) == everybody
    assert await seen(read, raw.replace(b"hi", b"ho")) == everybody
    assert await seen(read, raw.replace(b": b", b": c")) == everybody
    assert await seen(read, raw.replace(b"/a", b"/b")) == everybody
    assert await seen(read, raw.replace(b"reader", b"writer")) == everybody
    assert await seen(read, raw[:-1]) == everybody


@pytest.mark.parametrize("path", [b"/a?b#c", b"/#", b"#/", b"#?b"])
async def test_p_5_h2_10_of_a_fragment_nothing_is_decided_on_or_read(
    mesh: Mesh, parsers: dict[str, Parser], path: bytes
) -> None:
    """The library cuts it off, and what is left of a path that was nothing else is `/`."""
    await written(mesh)
    tally = Tally(f"HTTP/2, {path.decode()}")
    pseudo = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"reader.test"), (b":path", path))
    sent = Sent2(pseudo, (), ())
    answer = await send2(way(mesh, "plaintext", True), sent, ())
    assert answer is not None
    number = number_of(answer)
    assert number is not None, answer
    tally.answered[number] = decided(sent.as_head()), answer
    await compare_all(mesh, tally, parsers, {number: sent.body})
    assert not tally.differences
