"""The sockets of a client's connections: closed when the client is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref

from aiohttp import AddrInfoType

MOST_TURNS = 100
"""Of the loop, in which it takes notice: two or three are enough."""


class Sockets:
    """Makes the sockets of a connector (`socket_factory`), and ends those that it has left open.

    The connection of an answer that is left in its middle ends with a farewell of TLS (RFC 8446 §6.1), which
    the other end may answer late or never. Nothing waits for that: a loop that ends then leaves the socket to
    the garbage collector.
    """

    def __init__(self) -> None:
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def make(self, address: AddrInfoType) -> socket.socket:
        """Return a socket for an address."""
        made = socket.socket(*address[:3])
        self._made.add(made)
        return made

    async def close(self) -> None:
        """End what is open: nothing is left to be said, so nobody waits for the other end."""
        for each in list(self._made):
            with contextlib.suppress(OSError):  # it is closed, or was never connected
                each.shutdown(socket.SHUT_RDWR)
        for _ in range(MOST_TURNS):
            if all(each.fileno() == -1 for each in list(self._made)):
                return
            await asyncio.sleep(0)
