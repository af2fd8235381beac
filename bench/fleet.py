"""Simulated proxies, and what a process takes of the machine."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from grpclib.exceptions import GRPCError, StreamTerminatedError

from identity.spiffe_id import SpiffeId
from policyd import engine
from policyd_api.v1 import stream_pb2 as wire
from policyd_api.v1.stream_grpc import PolicyStreamStub
from servicekit.channel import VerifiedChannel
from servicekit.svid import Svid
from servicekit.tls import client_context

WAIT_SECONDS = 300.0
BACKOFF_SECONDS = 0.5
CONNECTING = 256
"""Proxies that connect at once. All are one process here: with ten thousand handshakes under way none
ends in the time that policyd gives it, which says nothing of policyd.
"""


@dataclass(frozen=True)
class Place:
    """Where policyd listens (`host:port`), who it must be, and the roots that say so."""

    address: str
    policyd: SpiffeId
    roots: tuple[bytes, ...]


@dataclass
class Fleet:
    """The simulated proxies: how many have acknowledged which snapshot."""

    acked: dict[int, bytes] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    connecting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTING))

    def ack(self, proxy: int, snapshot: bytes) -> None:
        self.acked[proxy] = snapshot
        self.changed.set()

    async def until(self, proxies: int, before: dict[int, bytes]) -> None:
        """Wait until so many have acknowledged something else than `before`."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.acked) < proxies or any(self.acked[each] == old for each, old in before.items()):
                self.changed.clear()
                await self.changed.wait()


async def follow_on(place: Place, fleet: Fleet, number: int, svid: Svid) -> None:
    """Connect again, and again, as proxies do."""
    context = client_context(place.roots, svid)
    while True:
        with suppress(OSError, GRPCError, StreamTerminatedError, TimeoutError):
            await _follow(place, fleet, number, context)
        await asyncio.sleep(BACKOFF_SECONDS * random.uniform(0.5, 2))  # noqa: S311 — jitter


async def follow(place: Place, fleet: Fleet, number: int, svid: Svid) -> None:
    """One proxy: takes what it is told, and acknowledges it."""
    await _follow(place, fleet, number, client_context(place.roots, svid))


async def _follow(place: Place, fleet: Fleet, number: int, context: ssl.SSLContext) -> None:
    host, _, port = place.address.rpartition(":")
    channel = VerifiedChannel(host, int(port), context, place.policyd)
    try:
        async with AsyncExitStack() as until_told:
            await until_told.enter_async_context(fleet.connecting)
            async with PolicyStreamStub(channel).Follow.open() as stream:
                hello = wire.Hello(reader_version=engine.READER_VERSION)
                await stream.send_message(wire.ProxyMessage(hello=hello))
                async for message in stream:
                    if message.HasField("assignment"):
                        envelope = wire.Envelope.FromString(message.assignment.envelope.payload)
                        ack = wire.Ack(serial=envelope.serial, snapshot_sha256=envelope.snapshot_sha256)
                        await stream.send_message(wire.ProxyMessage(ack=ack))
                        fleet.ack(number, envelope.snapshot_sha256)
                        await until_told.aclose()
    finally:
        with suppress(OSError, GRPCError, StreamTerminatedError):
            channel.close()


def resident(pid: int) -> float:
    """In KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def most_resident(pid: int) -> float:
    """In KiB: the most that it ever was."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
