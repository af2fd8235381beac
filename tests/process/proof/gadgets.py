"""Requests that were, or could be, read two ways: ways to say a length, times ways to hide how it is said.

Of our own making, from the rows H1-01 to H1-14 and H2-09 to H2-15. Each names itself in its path, and holds
in its body what a wrong reading takes for a request: `/smuggled/<number>`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .at_random import Fields, Sent2

HOST = b"Host: reader.test"
AROUND_NAMES = (
    b"%s", b"%s ", b" %s", b"\t%s", b"%s\t", b"%s\x0b", b"%s\x00", b"\x00%s", b"%s\xa0", b"\xa0%s", b"%s\r",
    b"\x0b%s", b"X: a\r\n %s", b"X: a\r\n\t%s", b"X: a\n%s", b"X: a\r%s", b"X: a\n\r%s", b"X: a\x00%s",
    b"'%s'", b'"%s"', b"%s%%00", b"%s;", b"%s[0]", b"$%s", b"%s.", b"%s\x85", b"\xef\xbb\xbf%s", b"(%s)",
)  # fmt: skip
SEPARATORS = (
    b": ", b":", b":\t", b" : ", b"\t:", b":\x0b", b":\x0c", b":\xa0", b":\x00", b":\r\n ", b":\r\n\t",
    b":\n ", b":\r", b":: ", b" ", b"=", b";", b":\x1f", b":\x7f", b":\x85",
)  # fmt: skip
AROUND_VALUES = (
    b"%s", b"%s ", b" %s", b"%s\t", b"%s\x0b", b"\x0b%s", b"\x0c%s", b"%s\x0c", b"%s,", b",%s", b", %s",
    b"%s, %s", b"%s,%s", b"%s;", b"%s;q=1", b'"%s"', b"'%s'", b"%s\x00", b"\x00%s", b"\xff%s", b"%s\xa0",
    b"\xa0%s", b"%s\r", b"%s\r\n ", b"%s\r\n\tx", b"\r\n %s", b"%s\n", b"%s x", b"x %s", b"%s\x85",
    b"%s%%0d%%0a", b"(%s)", b"%s#",
)  # fmt: skip
CODINGS = (
    b"Chunked", b"CHUNKED", b"chunKed", b"xchunked", b"chunkedx", b"chunk", b"identity",
    b"identity, chunked", b"chunked, identity", b"gzip, chunked", b"chunked, gzip", b"gzip", b"", b"cow",
    b"cow, chunked", b"chu nked", b"chunk\x00ed", b"chun\xadked", b"deflate;q=1, chunked",
    b"trailers, chunked", b"null", b"chunked\xe2\x80\x8b",
)  # fmt: skip
NAMES_OF_CODING = (
    b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer_Encoding", b"Transfer-\xadEncoding",
    b"Transfer Encoding", b"TransferEncoding", b"Transfer--Encoding", b"Transfer-Encodin",
    b"Transfer-Encoding-", b"X-Transfer-Encoding", b"Tran\xc5\xbffer-Encoding", b"Transfer.Encoding",
    b"Transfer\x00-Encoding", b"Content-Encoding", b"TE",
)  # fmt: skip
NAMES_OF_LENGTH = (
    b"content-length", b"CONTENT-LENGTH", b"Content_Length", b"Content Length", b"ContentLength",
    b"Content-Length-", b"Content-Lengt", b"X-Content-Length", b"Content\x00-Length", b"Content-\xadLength",
    b"Content.Length",
)  # fmt: skip
LENGTHS = (
    b"+%d", b"-%d", b"0%d", b"00%d", b"%d.0", b"%d_", b"0_%d", b"0x%x", b"0o%o", b"%de0", b"%d,%d",
    b"%d, %d", b"%d,0", b"0,%d", b"%d;", b"%d\x00", b"\x00%d", b"%d %d", b"%d\x0b", b"\x0b%d", b"\xb2%d",
    b"1844674407370955161%d", b"922337203685477580%d", b"", b"a", b"%da", b"a%d", b"%d\r\n 0", b"%d\n",
    b"%%3%d", b"'%d'", b'"%d"', b"%d\xa0",
)  # fmt: skip
SIZES = (
    b"0x%x", b"+%x", b"-%x", b" %x", b"%x ", b"\t%x", b"%x\t", b"%x\x0b", b"%x_", b"0_%x", b"%xg", b"%x,",
    b"%x;a\nb", b"%x;a\rb", b"%x;\r", b"%x;\n", b"%x\n", b"%x\r", b"%x\r\r", b"%x\n\r", b"\r\n%x", b"\n%x",
    b"%x;" + b"a" * 300, b"0" * 17 + b"%x", b"1" + b"0" * 16 + b"%x", b"ffffffffffffffff%x", b"%x\x00",
    b"\x00%x", b"", b"%x#", b"%x.0", b"%xh", b"%x;a=\x00", b"\xef\xbc\x90%x",
)  # fmt: skip
ENDS = (
    b"0\r\n\n", b"0\n\r\n", b"0\n\n", b"0\r\r", b"0\r\n\r", b"0\r\nX\r\n\r\n", b"00", b"0 \r\n\r\n",
    b"0\r\n a: b\r\n\r\n", b"0\r\nHost: other.test\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nA: b\nC: d\r\n\r\n", b"0\r\n: b\r\n\r\n",
    b"0;\r\n\r\n", b"-0\r\n\r\n", b"0x0\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Gadget:
    """Bytes to be sent on a connection of their own, and what they are."""

    what: str
    head: bytes
    rest: bytes


def inner(number: int) -> bytes:
    """What must not be taken for a request."""
    return b"GET /smuggled/%d HTTP/1.1\r\nHost: reader.test\r\n\r\n" % number


def _head(number: int, lines: list[bytes], method: bytes = b"POST", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"%s /gadget/%d %s" % (method, number, version), HOST, *lines, b"", b""])


def _fill(form: bytes, value: bytes | int) -> bytes:
    return form % ((value,) * (form.replace(b"%%", b"").count(b"%")))


def codings() -> Iterator[bytes]:
    """Lines that say, or nearly say, that chunks follow."""
    for form in AROUND_NAMES:
        yield _fill(form, b"Transfer-Encoding") + b": chunked"
    for separator in SEPARATORS:
        yield b"Transfer-Encoding" + separator + b"chunked"
    for form in AROUND_VALUES:
        yield b"Transfer-Encoding: " + _fill(form, b"chunked")
    for coding in CODINGS:
        yield b"Transfer-Encoding: " + coding
    for name in NAMES_OF_CODING:
        yield name + b": chunked"


def lengths(length: int) -> Iterator[bytes]:
    """Lines that say, or nearly say, how much follows."""
    for form in AROUND_NAMES:
        yield _fill(form, b"Content-Length") + b": %d" % length
    for separator in SEPARATORS:
        yield b"Content-Length" + separator + b"%d" % length
    for form in LENGTHS:
        yield b"Content-Length: " + _fill(form, length)
    for name in NAMES_OF_LENGTH:
        yield name + b": %d" % length


class Collection:
    """Gadgets of HTTP/1.1, numbered from 0."""

    def __init__(self) -> None:
        self.all: list[Gadget] = []

    @property
    def number(self) -> int:
        """The number of the next."""
        return len(self.all)

    def add(self, what: str, lines: list[bytes], rest: bytes, **of_head: bytes) -> None:
        """One more, of these lines in its head."""
        self.all.append(Gadget(what, _head(self.number, lines, **of_head), rest))

    def both_ways(self, coding: bytes) -> None:
        """A coding beside a length: in front of it, behind, and in the middle of other fields."""
        for order in range(3):
            body = b"0\r\n\r\n" + inner(self.number)
            length = b"Content-Length: %d" % len(body)
            lines = ([coding, length], [length, coding], [b"A: b", length, coding, b"C: d"])[order]
            self.add("the length holds it", lines, body)
        piece = inner(self.number)
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(piece), piece)
        self.add("a chunk holds it", [b"Content-Length: 4", coding], chunks)

    def two_lengths(self, form: int) -> None:
        """A length alone, and one beside another."""
        for order in range(4):
            body = inner(self.number)
            line, plain = list(lengths(len(body)))[form], b"Content-Length: %d" % len(body)
            lines = ([line], [line, plain], [plain, line], [line, b"Content-Length: 0"])[order]
            self.add("lengths", lines, body)

    def chunks(self) -> None:
        """Sizes and ends of chunks."""
        coding = [b"Transfer-Encoding: chunked"]
        for size in SIZES:
            piece = inner(self.number)
            self.add("chunk size", coding, _fill(size, len(piece)) + b"\r\n" + piece + b"\r\n0\r\n\r\n")
        for end in ENDS:
            self.add("last chunk", coding, b"1\r\na\r\n" + end + inner(self.number))

    def methods_and_versions(self) -> None:
        """Bodies where none is expected, and versions that have none, or other ones."""
        for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"CONNECT", b"get"):
            for line in WITH_LENGTH:
                body = inner(self.number)
                lines = [*line, b"Content-Length: %d" % len(body)]
                self.add("a body where none is expected", lines, body, method=method)
        for version in VERSIONS:
            for line in ([b"Transfer-Encoding: chunked"], [b"Content-Length: 5"]):
                self.add("a version", line, b"0\r\n\r\n" + inner(self.number), version=version)

    def pairs(self) -> None:
        """Two hidden things at once, chosen once and for all."""
        dice, all_codings = random.Random(1), list(codings())
        for _ in range(250):
            body = b"0\r\n\r\n" + inner(self.number)
            lines = [*dice.sample(all_codings, 2), dice.choice(list(lengths(len(body))))]
            dice.shuffle(lines)
            self.add("pairs", lines, body)


WITH_LENGTH: tuple[list[bytes], ...] = (
    [],
    [b"Transfer-Encoding: chunked"],
    [b"Expect: 100-continue"],
    [b"Connection: content-length"],
    [b"Connection: close, transfer-encoding"],
)
NAMES_OF_HTTP2 = (
    b"transfer-encoding", b"Transfer-Encoding", b"transfer_encoding", b"transfer-encoding ", b"connection",
    b"upgrade", b"te", b"content_length", b"host", b"keep-alive", b"proxy-connection", b":transfer-encoding",
    b"", b":", b"a:b", b"a b", b"transfer-encoding\x00", b"\xc2\xa0transfer-encoding", b"http2-settings",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.1\x00",
    b"HTTP/11",
)  # fmt: skip


def http1() -> list[Gadget]:
    """All of them."""
    made = Collection()
    for coding in codings():
        made.both_ways(coding)
    for form in range(len(list(lengths(0)))):
        made.two_lengths(form)
    made.chunks()
    made.methods_and_versions()
    made.pairs()
    return made.all


def http2() -> list[Sent2]:
    """The same idea in field lists, which are to become HTTP/1.1."""
    made: list[Sent2] = []

    def add(extra: Fields = (), body: bytes | None = None, **pseudo: bytes) -> None:
        number = len(made)
        values = {
            "method": b"POST",
            "scheme": b"http",
            "authority": b"reader.test",
            "path": b"/fields/%d" % number,
        }
        values |= {name: value.replace(b"PATH", values["path"]) for name, value in pseudo.items()}
        fields = [(b":" + name.encode(), value) for name, value in values.items()]
        content = (
            b"0\r\n\r\n" + inner(number).replace(b"smuggled", b"fields-smuggled") if body is None else body
        )
        made.append(Sent2((*fields, *extra), (content,) if content else (), ()))

    injections = (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" HTTP/1.1\r\nA: b", b"\t", b" ")
    for injected in injections:
        tail = injected + b"transfer-encoding: chunked"
        heads: dict[str, Any] = {
            "method": b"POST",
            "scheme": b"http",
            "authority": b"reader.test",
            "path": b"PATH",
        }
        for name, value in heads.items():
            add(**{name: value + tail})
        for fields in (
            (b"x-a", b"b" + tail),
            (b"x-a" + tail, b"b"),
            (b"cookie", b"a=b" + tail),
            (b"x-a: b" + tail, b""),
        ):
            add((fields,))
    for field in NAMES_OF_HTTP2:
        for value in (b"chunked", b" chunked", b"trailers", b"other.test", b"content-length", b"h2c"):
            add(((field, value),))
    for length in (
        b"0",
        b"5",
        b"+5",
        b"05",
        b"-1",
        b"5, 5",
        b"9999",
        b"",
        b" 5",
        b"5 ",
        b"0x5",
        b"18446744073709551621",
    ):
        add(((b"content-length", length),))
        add(((b"content-length", length), (b"content-length", b"5")))
        add(((b"content-length", length),), body=b"")
    for method in (
        b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\nGET",
        b"CONNECT",
        b"",
        b"get",
        b"GET /other",
        b"TRACE",
    ):
        add(method=method)
    for path in (
        b"",
        b"*",
        b"reader.test",
        b"http://other.test/",
        b"/ HTTP/1.1\r\n\r\n",
        b"/a b",
        b"/a\x00",
        b"/a\x7f",
        b"//",
        b"/..",
        b"PATH#a",
    ):
        add(path=path)
    for authority in (b"", b"a b", b"a@b", b"a/b", b"a, b", b"a:b", b"[", b"reader.test\r\nX: y"):
        add(authority=authority)
        add(((b"host", b"other.test"),), authority=authority)
    return made
