"""P-6: gadgets are refused, or read in one way by the gate, the application, and parsers on its bytes."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from itertools import islice

import pytest

from tests.process.mesh import Mesh
from tests.process.witness import Way, statuses

from . import gadgets
from .gadgets import Gadget
from .parsers import ALWAYS, Parser, by_h11, by_library
from .reader import Read, way, written
from .readings import decided, misread, number_of
from .senders import opened, send2
from .tools import tell

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.promise("P-6")]

AT_A_TIME = 16
PATIENCE = 0.6
"""Seconds without a byte: the proxy answers at once, or waits for a body that never comes."""
FEWEST = 1_000


async def send(at: Way, gadget: Gadget) -> list[int]:
    """The statuses of all that comes back until the connection ends, or nothing comes any more."""
    reader, writer = await opened(at)
    received = b""
    try:
        writer.write(gadget.head + gadget.rest)
        async with asyncio.timeout(10):
            while piece := await asyncio.wait_for(reader.read(65536), PATIENCE):
                received += piece
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return statuses(received)


def number_in(read: Read, word: str) -> int | None:
    """The gadget's number, where its path is `/<word>/<number>`."""
    found = re.fullmatch(rb"/%s/(\d+)" % word.encode(), read.request.first[1])
    return int(found[1]) if found else None


def follows(gadget: Gadget, number: int) -> bool:
    """Whether the request in it is one: the gate takes the head, which says that its own ends before."""
    canonical = decided(gadget.head)
    if canonical is None:
        return False
    length = dict(canonical.fields).get(b"content-length")
    if length is None and b"chunked" in gadget.head.lower():
        readings = [by_h11(gadget.head + gadget.rest), by_library(gadget.head + gadget.rest)]
        targets = [[message.first[1] for message in reading] for reading in readings]
        return all(target[1:] == [b"/smuggled/%d" % number] for target in targets)
    return gadget.rest[int(length or b"0") :].startswith(gadgets.inner(number))


@pytest.mark.parametrize("by", ["plaintext", "two proxies"])
async def test_p_6_a_gadget_is_refused_or_read_in_one_way(
    mesh: Mesh, parsers: dict[str, Parser], by: str
) -> None:
    all_gadgets = gadgets.http1()
    assert len(all_gadgets) >= FEWEST
    await written(mesh)
    at, counts, faults = way(mesh, by), Counter[str](), list[str]()
    numbered = iter(list(enumerate(all_gadgets)))

    async def client() -> None:
        for number, gadget in numbered:
            answers = await send(at, gadget)
            refused = decided(gadget.head) is None
            counts["refused" if refused else "taken"] += 1
            if refused and answers != [400]:
                faults.append(f"{gadget.what} {number} answered {answers}: {gadget.head!r}")

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    reads, _ = await written(mesh)
    for read in reads:
        number = number_in(read, "gadget")
        within = number_in(read, "smuggled")
        if number is None and within is None:
            faults.append(f"nobody sent {read}")
        elif within is not None and not follows(all_gadgets[within], within):
            faults.append(f"smuggled: {all_gadgets[within]}")
        elif number is not None and decided(all_gadgets[number].head) is None:
            faults.append(f"refused, and forwarded: {all_gadgets[number]}")
        faults += await misread(parsers, read)
    counts["reached the application"] = len(reads)
    tell(f"gadgets by {by}: {len(all_gadgets)}, of them {dict(counts)}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(islice((fault[:900] for fault in faults), 5))
    assert counts["refused"] > FEWEST / 2, "too few were refused to show anything"


async def test_p_6_a_gadget_of_http2_becomes_one_request_or_none(
    mesh: Mesh, parsers: dict[str, Parser]
) -> None:
    """What a proxy carries over HTTP/2 becomes HTTP/1.1 for the application."""
    all_gadgets = gadgets.http2()
    await written(mesh)
    at, taken, faults = way(mesh, "carried"), list[int | None](), list[str]()
    numbered = iter(list(enumerate(all_gadgets)))

    async def client() -> None:
        for number, gadget in numbered:
            answer = await send2(at, gadget, ((b"x-policyd-version", b"1.1"),))
            taken.append(number_of(answer) if answer else None)
            if taken[-1] is not None and decided(gadget.as_head()) is None:
                faults.append(f"{number} was forwarded: {gadget}")

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    reads, broken = await written(mesh)
    faults += [
        f"no HTTP to the application: {each}" for each in broken if "peer closed connection" not in each
    ]
    for read in reads:
        faults += await misread(parsers, read)
    tell(f"gadgets of HTTP/2: {len(all_gadgets)}, of them {taken.count(None)} refused")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(islice((fault[:900] for fault in faults), 5))
    assert taken.count(None) > len(all_gadgets) / 2, "too few were refused to show anything"


async def test_the_parsers_know_smuggling_when_they_see_it() -> None:
    """The counter-check: given a request behind a request, they see two."""
    two = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + gadgets.inner(1)
    assert [len(await parser(two)) for parser in ALWAYS.values()] == [2, 2, 2]
