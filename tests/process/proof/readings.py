"""One request, as the gate, the application and every other parser read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from policyd.engine import canonicalize
from policyd.errors import RequestRefused

from .parsers import Parser, UnreadError
from .reader import READ_BY_POLICY, Message, Read

PROFILE = json.dumps({"policyHeaders": READ_BY_POLICY}).encode()
CALLERS = json.dumps({"policyHeaders": [], "pathMode": "opaque", "websocket": True, "lenient": True}).encode()
"""As the proxy of who calls reads: it refuses little, takes away what is of the hop, and joins cookies."""
OF_THE_HOP = frozenset(
    {b"host", b"transfer-encoding", b"connection", b"te", b"upgrade", b"trailer", b"content-length"}
)
"""Not compared as fields: authority, body and trailers are what they mean."""
OF_ITS_OWN = {"llhttp": "InvalidMethod"}
"""What a parser may refuse of what was forwarded, reading nothing otherwise: llhttp has a list of methods."""


def decided(head: bytes, carried: bool = False) -> Message | None:
    """What the engine makes of a head; none where it refuses it. `carried`: it comes by HTTP/2 through the
    proxy of who calls, which writes it anew; in HTTP/1 that one passes on the bytes of what it can't read.
    """
    try:
        return _read(_written(_read(head, CALLERS)) if carried else head, PROFILE)
    except RequestRefused:
        return None


def _read(head: bytes, profile: bytes) -> Message:
    told: dict[str, Any] = json.loads(canonicalize(head, profile))
    fields = tuple((name.encode(), value.encode()) for name, value in told["headers"])
    return Message(
        (told["method"].encode(), told["target"].encode(), told["authority"].encode()), fields, b""
    )


def _written(message: Message) -> bytes:
    method, target, authority = message.first
    lines = [b"%s: %s" % field for field in (*message.fields, (b"host", authority))]
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method, target), *lines, b"", b""])


def plain(fields: Iterable[tuple[bytes, bytes]], readable: bool = False) -> list[tuple[bytes, bytes]]:
    """Fields to be compared: by name, values of one name in their order; `readable` as JSON shows bytes."""
    kept = [(name, value) for name, value in fields if name not in OF_THE_HOP]
    if readable:
        kept = [(name, value.decode(errors="replace").encode()) for name, value in kept]
    return sorted(kept, key=lambda pair: pair[0])


def number_of(answer: Message) -> int | None:
    """The application's number of an answer; none where the proxy answered by itself."""
    numbers = [int(value) for name, value in answer.fields if name == b"x-answer"]
    assert len(numbers) <= 1, answer
    return numbers[0] if numbers else None


async def misread(parsers: dict[str, Parser], read: Read) -> list[str]:
    """What other parsers make of the forwarded bytes, where it isn't exactly what the application read."""
    assert read.raw is not None
    faults = []
    for name, parser in parsers.items():
        try:
            messages = await parser(read.raw)
        except UnreadError as refusal:
            if OF_ITS_OWN.get(name, "-") not in str(refusal):
                faults.append(f"{name} refuses {read.raw!r}: {refusal}")
            continue
        if len(messages) != 1 or not _same(read.request, messages[0], trailers=name != "http.server"):
            faults.append(f"{name} reads {messages} in {read.raw!r}")
    return faults


def _same(ours: Message, theirs: Message, trailers: bool) -> bool:
    return (ours.first, ours.body, plain(ours.fields)) == (
        theirs.first,
        theirs.body,
        plain(theirs.fields),
    ) and (not trailers or sorted(ours.trailers) == sorted(theirs.trailers))
