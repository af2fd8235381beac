"""Requests at random, from a grammar that has everything that parsers were found to differ about."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

NASTY = (
    b"\x00", b"\r", b"\n", b"\r\n", b"\t", b" ", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\x85",
    b"\xa0", b"\xff", b":", b",", b";", b'"', b"%", b"/", b"\\", b"#", b"?", b"*", b"_", b"\r\n ",
    b"\r\n\t", b"\r\n\r\n",
)  # fmt: skip
METHODS = (
    b"GET", b"GET", b"GET", b"POST", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH", b"PURGE",
)  # fmt: skip
ODD_METHODS = (b"TRACE", b"get", b"CONNECT", b"M-SEARCH", b"!#$%&'*+-.^_`|~", b"G" * 33)
SEGMENTS = (
    b"a", b"admin", b"Admin", b"a.b", b"a-b_c~d", b"a;x=1", b"$&'()*+,=:@!", b"%41%7e", b"%c3%a9", b"a%20b",
)  # fmt: skip
ODD_SEGMENTS = (
    b"..", b".", b"", b"%2e%2e", b"%2f", b"%5c", b"%252e", b"%00", b"%zz", b"..;x", b"%", b"a#b", b"\xe9",
)  # fmt: skip
QUERIES = (b"", b"a=b", b"a=b&c", b"a=%20+", b"/?:@", b"a[]={}|^`", b"%41", b"&&=&")
ODD_QUERIES = (b"%", b"a b", b"a#b", b"%0d%0a", b"\xff", b'"')
NAMES = (
    b"accept", b"User-Agent", b"X-ROLE", b"x-env", b"cookie", b"Cookie", b"x-a.b", b"content-type",
    b"range",
)  # fmt: skip
ODD_NAMES = (
    b"x_role", b"transfer_encoding", b"content_length", b"x-policyd-a", b"l5d-client-id",
    b"x-forwarded-client-cert", b"keep-alive", b"proxy-connection", b"trailer", b"te", b"expect",
    b"upgrade", b"http2-settings", b"", b"a b", b"a\x00b", b"\xe9", b"host", b"content-length",
    b"transfer-encoding", b"connection", b"content-length ", b" x",
)  # fmt: skip
VALUES = (
    b"", b"a", b"a, b", b'"q,q"', b"x=y; z=1", b"a  b", b"a\tb", b"\xe9\xff", b"1" * 500, b"admin", b"0",
)  # fmt: skip
ODD_VALUES = (
    b"a\x00b", b"a\rb", b"a\nb", b"\x7f", b"chunked", b"Chunked", b"trailers", b"100-continue",
    b"websocket", b"h2c", b"close", b"x-role", b"host", b"keep-alive, x-env", b"0", b"5", b"+5", b"05",
    b"5, 5", b"\x0bchunked", b"a.test",
)  # fmt: skip
HOSTS = (b"reader.test", b"reader.test:80", b"READER.test", b"reader.test.", b"127.0.0.1", b"[::1]:8080")
ODD_HOSTS = (
    b"", b"a, b", b"u@a", b"a/b", b"[::1", b"a:99999", b"a b", b"a_b", b"a#b", b"\xe9.test", b"a..b",
)  # fmt: skip
EXTENSIONS = (b"", b"", b"", b";a=b", b';a="b"', b";", b";a")
TRAILERS = (
    b"ETag: a", b"Server-Timing: a", b"X-Other: a", b"Host: other.test", b"Content-Length: 5",
    b"X-Role: admin",
)  # fmt: skip

NEAR_THE_BOUND = (14 * 1024, 18 * 1024)

T = TypeVar("T")
Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Sent:
    """A request in HTTP/1.1: the bytes of its head, and of what follows."""

    head: bytes
    rest: bytes
    body: bytes | None
    """What the body is, where it is well formed."""
    broken: bool
    """Something was changed afterwards, so that the other end may wait for more."""

    def with_line(self, line: bytes) -> Sent:
        """The same with one line more at the end of the head."""
        return Sent(self.head[:-2] + line + b"\r\n\r\n", self.rest, self.body, self.broken)


@dataclass(frozen=True)
class Sent2:
    """A request in HTTP/2."""

    fields: Fields
    pieces: tuple[bytes, ...]
    trailers: Fields

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def as_head(self) -> bytes:
        """The head that says the same in HTTP/1.1, for the same gate.

        A fragment is cut off, and of a path that was nothing else `/` is left (row H2-10).
        """
        pseudo = dict(field for field in self.fields if field[0].startswith(b":"))
        lines = [b"%s: %s" % field for field in self.fields if not field[0].startswith(b":")]
        lines = [line for line in lines if not line.startswith((b"host:", b"te:"))]
        path, fragment, _ = pseudo.get(b":path", b"").partition(b"#")
        target = path or b"/" if fragment else path
        first = b"%s %s HTTP/1.1" % (pseudo.get(b":method", b""), target)
        return b"\r\n".join([first, b"Host: " + pseudo.get(b":authority", b""), *lines, b"", b""])


class Grammar:
    """Draws requests; `odd` is the share of places where something is drawn that is probably refused."""

    def __init__(self, seed: int, odd: float = 0.02, broken: float = 0.25) -> None:
        self.dice = random.Random(seed)
        self.odd, self.broken = odd, broken

    def http1(self) -> Sent:
        """A request in HTTP/1.1."""
        dice = self.dice
        method, target, host = self._method(), self._target(), self._of(HOSTS, ODD_HOSTS)
        if dice.random() < 0.05:
            target = dice.choice((b"http://", b"HTTP://", b"https://")) + host + target
        lines = [b"%s:%s%s%s" % (name, self._blank(), value, self._blank()) for name, value in self._fields()]
        framing, rest, body = self._body1(method)
        lines += [b"%s: %s" % (self._case(b"host"), host), *framing]
        dice.shuffle(lines)
        version = self._of((b"HTTP/1.1",), (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 "))
        head = b"\r\n".join([b"%s %s %s" % (method, target, version), *lines, b"", b""])
        if dice.random() >= self.broken:
            return Sent(head, rest, body, broken=False)
        if rest and dice.random() < 0.4:
            return Sent(head, self._break(rest), None, broken=True)
        return Sent(self._break(head), rest, None, broken=True)

    def http2(self) -> Sent2:
        """A request in HTTP/2; none with a head near its bound, whose bytes each version counts otherwise."""
        while True:
            sent = self._http2()
            size = sum(len(name) + len(value) for name, value in sent.fields)
            if not NEAR_THE_BOUND[0] < size < NEAR_THE_BOUND[1]:
                return sent

    def _http2(self) -> Sent2:
        dice = self.dice
        method, authority = self._method(), self._of(HOSTS, ODD_HOSTS)
        pieces = (
            tuple(self._content() for _ in range(dice.choice((0, 0, 1, 2, 3)))) if method != b"HEAD" else ()
        )
        pseudo = [
            (b":method", method),
            (b":scheme", self._of((b"http", b"https"), (b"ftp", b"HTTP", b""))),
            (b":authority", authority),
            (b":path", self._target()),
        ]
        dice.shuffle(pseudo)
        fields = [(name.lower(), value) for name, value in self._fields()]
        if dice.random() < 0.1:
            fields.append((b"te", b"trailers"))
        if dice.random() < 0.1:
            fields.append((b"host", authority))
        if dice.random() < 0.4:
            length = len(b"".join(pieces)) + self._of((0,), (1, -1, 5))
            fields.append((b"content-length", b"%d" % max(length, 0)))
        dice.shuffle(fields)
        whole = [*pseudo, *fields]
        if dice.random() < self.broken / 2:
            self._break_fields(whole)
        ended = [self._field() for _ in range(dice.randrange(1, 3))] if pieces and dice.random() < 0.2 else []
        return Sent2(tuple(whole), pieces, tuple((name.lower(), value) for name, value in ended))

    def _of(self, usual: Sequence[T], odd: Sequence[T]) -> T:
        return self.dice.choice(odd if self.dice.random() < self.odd else usual)

    def _method(self) -> bytes:
        return self._of(METHODS, ODD_METHODS)

    def _target(self) -> bytes:
        dice = self.dice
        segments = [self._of(SEGMENTS, ODD_SEGMENTS) for _ in range(dice.choice((0, 1, 2, 2, 3, 5)))]
        path = b"/" + b"/".join(segments)
        if dice.random() < 0.4:
            path += b"?" + self._of(QUERIES, ODD_QUERIES)
        return self._of((path,), (path[1:], b"*", b"//" + path, b"/" + b"a" * 9000))

    def _field(self) -> tuple[bytes, bytes]:
        return self._case(self._of(NAMES, ODD_NAMES)), self._of(VALUES, ODD_VALUES)

    def _fields(self) -> list[tuple[bytes, bytes]]:
        fields = [self._field() for _ in range(self.dice.choice((0, 1, 3, 6, 10)))]
        return fields * 15 if self.dice.random() < self.odd / 2 else fields

    def _case(self, name: bytes) -> bytes:
        return self.dice.choice((name, name, name.title(), name.upper()))

    def _blank(self) -> bytes:
        return self.dice.choice((b" ", b" ", b" ", b"", b"\t", b"  \t"))

    def _content(self) -> bytes:
        dice = self.dice
        few = (
            b"a",
            b"hello",
            b"0\r\n\r\n",
            b"GET /inside HTTP/1.1\r\nHost: reader.test\r\n\r\n",
            dice.randbytes(9),
        )
        return dice.choice((*few, dice.randbytes(dice.randrange(1, 2000)), dice.randbytes(12_000)))

    def _body1(self, method: bytes) -> tuple[list[bytes], bytes, bytes]:
        """Framing, bytes and meaning of a body."""
        dice = self.dice
        how = dice.choice(("none", "none", "length", "chunks")) if method != b"HEAD" else "none"
        if how == "none":
            return [], b"", b""
        pieces = [self._content() for _ in range(dice.choice((0, 1, 2, 4)))]
        body = b"".join(pieces)
        if how == "length":
            return [b"%s: %d" % (self._case(b"content-length"), len(body))], body, body
        chunks = [b"%s%s\r\n%s\r\n" % (self._size(piece), dice.choice(EXTENSIONS), piece) for piece in pieces]
        trailers = b"".join(dice.choice(TRAILERS) + b"\r\n" for _ in range(dice.choice((0, 0, 0, 1, 3))))
        framing = b"%s: %s" % (self._case(b"transfer-encoding"), dice.choice((b"chunked", b"Chunked")))
        return [framing], b"".join(chunks) + b"0\r\n" + trailers + b"\r\n", body

    def _size(self, piece: bytes) -> bytes:
        return self.dice.choice((b"%x", b"%X", b"%04x")) % len(piece)

    def _break(self, whole: bytes) -> bytes:
        """One to three changes of some bytes, anywhere."""
        dice = self.dice
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(whole))
            cut = dice.choice((0, 0, 1, 1, 2, 7))
            put = dice.choice((b"", *NASTY, dice.randbytes(1), whole[at : at + dice.randrange(40)]))
            whole = whole[:at] + put + whole[at + cut :] or b"\r\n"
        return whole

    def _break_fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        dice = self.dice
        at = dice.randrange(len(fields))
        name, value = fields[at]
        what = dice.randrange(5)
        if what == 0:
            fields.insert(dice.randrange(len(fields) + 1), fields[at])
        elif what == 1:
            del fields[at]
        elif what == 2:
            fields[at] = (name[:1] + dice.choice(NASTY) + name[1:], value)
        else:
            place = dice.randrange(len(value) + 1)
            fields[at] = (name, value[:place] + dice.choice(NASTY) + value[place:])
