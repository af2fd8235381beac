"""Small worlds, and the two ends of a policy stream without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from identity.spiffe_id import SpiffeId
from policyd.distribute.envelope import Hashes, Standing, Subject
from policyd.distribute.session import Contents, Session
from policyd.index.world import World
from policyd.sources.files import load
from policyd_api.v1 import stream_pb2 as wire
from servicekit.leaf import Leaf


@pytest.fixture
def world(tmp_path: Path) -> Callable[[str], World]:
    """A world made of manifests."""

    def made(text: str) -> World:
        (tmp_path / "world.yaml").write_text(text)
        found = World()
        found.apply((each.key, each) for each in load([tmp_path]).objects)
        return found

    return made


def leaf(account: str = "shop/cart", uid: str | None = "uid-1", trust_domain: str = "test") -> Leaf:
    namespace, name = account.split("/")
    now = datetime.now(UTC)
    identity = SpiffeId.parse(f"spiffe://{trust_domain}/ns/{namespace}/sa/{name}")
    return Leaf(identity, uid, now - timedelta(hours=1), now + timedelta(hours=1), "ab" * 32)


class FakeSigner:
    chain = (b"leaf", b"issuer")

    def sign(self, message: bytes) -> bytes:
        return b"signed:" + message[:8]


@dataclass
class FakeTeller:
    """Says what the test says."""

    snapshot: bytes = b"table-1"
    facts: bytes = b"facts"
    basis: tuple[tuple[str, str, int], ...] = (("folder", "*", 5),)
    epoch: int = 0
    error: Exception | None = None

    def contents(self, caller: Leaf, services: tuple[str, ...], reader_version: int) -> Contents:
        if self.error is not None:
            raise self.error
        discovery = ",".join(services).encode()
        hashes = Hashes(b"H" + self.snapshot, b"H" + self.facts, b"H" + discovery)
        return Contents(
            Subject("test", "deployment/shop/cart", "uid-1"), hashes, self.snapshot, self.facts, discovery
        )

    def standing(self) -> Standing:
        return Standing(self.epoch, self.basis, int(datetime.now(UTC).timestamp() * 1000))


@dataclass
class FakeStream:
    """Messages of the proxy go into `incoming`, None ends it; what policyd says comes out of `outgoing`."""

    incoming: asyncio.Queue[wire.ProxyMessage | None] = field(default_factory=asyncio.Queue)
    outgoing: asyncio.Queue[wire.ControllerMessage] = field(default_factory=asyncio.Queue)
    takes: bool = True

    async def recv_message(self) -> wire.ProxyMessage | None:
        return await self.incoming.get()

    async def send_message(self, message: wire.ControllerMessage) -> None:
        if not self.takes:
            await asyncio.Event().wait()
        self.outgoing.put_nowait(message)

    def hello(self, services: tuple[str, ...] = (), held: wire.Held | None = None) -> None:
        hello = wire.Hello(reader_version=1, services=services, held=held)
        self.incoming.put_nowait(wire.ProxyMessage(hello=hello))

    def ack(self, envelope: wire.Envelope) -> None:
        ack = wire.Ack(serial=envelope.serial, snapshot_sha256=envelope.snapshot_sha256)
        self.incoming.put_nowait(wire.ProxyMessage(ack=ack))

    def nack(self, envelope: wire.Envelope) -> None:
        nack = wire.Nack(serial=envelope.serial, code="SNAPSHOT_INVALID", detail="no")
        self.incoming.put_nowait(wire.ProxyMessage(nack=nack))

    async def assignment(self) -> tuple[wire.Assignment, wire.Envelope]:
        message = await asyncio.wait_for(self.outgoing.get(), 5)
        assert message.HasField("assignment")
        return message.assignment, wire.Envelope.FromString(message.assignment.envelope.payload)


@pytest.fixture
def stream() -> FakeStream:
    return FakeStream()


@pytest.fixture
def teller() -> FakeTeller:
    return FakeTeller()


@pytest.fixture
async def session(stream: FakeStream, teller: FakeTeller) -> Any:
    """A session that runs."""
    made = Session(stream, leaf(), teller, FakeSigner())  # type: ignore[arg-type]
    running = asyncio.create_task(made.run())
    made.running = running  # type: ignore[attr-defined]
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
