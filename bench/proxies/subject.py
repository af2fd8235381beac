"""What is compared: a proxy in front of the server, or one on either side of the way."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Protocol

from bench.proxies.manifests import PORT
from bench.proxies.model import paths
from bench.proxies.place import Place

Address = tuple[str, int]

OUTBOUND_PORT = 20001
START_SECONDS = 20.0
_ASK_SECONDS = 0.02


class NotPossibleError(Exception):
    """A proxy can't do what a row asks; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Names:
    """Protocol names to offer for HTTP/1.1 and HTTP/2, and headers to add to requests of HTTP/2."""

    http1: str
    http2: str
    http2_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Running:
    """A subject that answers."""

    pids: Sequence[int]
    address: Address
    audit: Path
    """Where it writes a line for each denial."""


class Subject(Protocol):
    """A proxy to be measured."""

    name: str
    names: Names

    def missing(self) -> str | None:
        """Say what isn't on this machine, and which package gives it; None where all is there."""

    def inbound(self, place: Place, core: int) -> AbstractContextManager[Running]:
        """Run it in front of the server."""

    def both(self, place: Place, core: int) -> AbstractContextManager[Running]:
        """Run it on either side; the client speaks plaintext to its own."""


@contextmanager
def direct(place: Place) -> Iterator[Running]:
    """No proxy at all: what the rest of the way costs."""
    yield Running((), (place.server.application, PORT), place.file("none"))


def wait_for_port(address: Address) -> None:
    """Wait until something listens. TimeoutError names the address."""
    _until(lambda: _accepts(address), f"nothing listens on {address[0]}:{address[1]}")


def wait_for_answer(address: Address, path: str) -> None:
    """Wait until a GET in plaintext is answered 200."""
    _until(lambda: _answers(address, path), f"{address[0]}:{address[1]}{path} isn't answered with 200")


def wait_for_way(place: Place, address: Address) -> None:
    """Wait until a request gets through both proxies."""
    wait_for_answer(address, paths(place.rules)[0])


def _until(done: Condition, otherwise: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} after {START_SECONDS:.0f} s")
        time.sleep(_ASK_SECONDS)


class Condition(Protocol):
    """A question asked again and again."""

    def __call__(self) -> bool:
        """Whether it is so now."""


def _accepts(address: Address) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except OSError:
        return False
    return True


def _answers(address: Address, path: str) -> bool:
    connection = HTTPConnection(*address, timeout=2)
    try:
        connection.request("GET", path, headers={"Host": "app.bench"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
