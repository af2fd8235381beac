"""Small worlds, and policyd's port with a controller that says what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.exceptions import GRPCError, StreamTerminatedError

from identity.material import create_root
from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.distribute.credentials import Credentials
from policyd.distribute.envelope import Hashes, Standing, Subject
from policyd.distribute.port import StreamPort
from policyd.distribute.publish import Publisher
from policyd.distribute.relayed import RelayedStream, RelayService
from policyd.distribute.service import PolicyStreamService
from policyd.distribute.session import Contents, Session
from policyd.engine import Fanout, StreamView
from policyd.index.world import World
from policyd.sources.files import load
from policyd_api.v1 import stream_pb2 as wire
from policyd_api.v1.stream_grpc import PolicyStreamStub
from servicekit.channel import VerifiedChannel
from servicekit.leaf import Leaf
from servicekit.svid import Svid, TrustBundles
from servicekit.tls import client_context
from tests.process.mesh import make_svid

DOMAIN = TrustDomain("test")
OWN = SpiffeId.of_service_account(DOMAIN, "policyd", "policyd")
WAIT_SECONDS = 10


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


def _hash(content: bytes) -> bytes:
    return b"H" + content[:100]


@dataclass
class FakeTeller:
    """Says what the test says."""

    snapshot: bytes = b"table-1"
    facts: bytes = b"facts"
    basis: tuple[tuple[str, str, int], ...] = (("folder", "*", 5),)
    epoch: int = 0
    error: Exception | None = None
    broken: str | None = None
    asked: int = 0
    hastened: wire.Held | None = None

    def contents(self, caller: Leaf, services: tuple[str, ...], reader_version: int) -> Contents:
        self.asked += 1
        if self.error is not None:
            raise self.error
        discovery = ",".join(services).encode()
        hashes = Hashes(_hash(self.snapshot), _hash(self.facts), _hash(discovery))
        subject = Subject("test", "deployment/shop/cart", caller.pod_uid or "")
        return Contents(subject, hashes, self.snapshot, self.facts, discovery)

    def hasten(self, held: wire.Held) -> None:
        self.hastened = held

    def standing(self) -> Standing:
        return Standing(self.epoch, self.basis, int(datetime.now(UTC).timestamp() * 1000))


@dataclass
class Proxy:
    """The other end of a policy stream."""

    stream: Any

    async def hello(self, services: tuple[str, ...] = (), held: wire.Held | None = None) -> None:
        hello = wire.Hello(reader_version=1, services=services, held=held)
        await self.stream.send_message(wire.ProxyMessage(hello=hello))

    async def ack(self, envelope: wire.Envelope) -> None:
        ack = wire.Ack(serial=envelope.serial, snapshot_sha256=envelope.snapshot_sha256)
        await self.stream.send_message(wire.ProxyMessage(ack=ack))

    async def nack(self, envelope: wire.Envelope) -> None:
        nack = wire.Nack(serial=envelope.serial, code="SNAPSHOT_INVALID", detail="no")
        await self.stream.send_message(wire.ProxyMessage(nack=nack))

    async def message(self) -> wire.ControllerMessage:
        message = None
        with suppress(StreamTerminatedError):
            async with asyncio.timeout(WAIT_SECONDS):
                message = await self.stream.recv_message()
        if message is None:
            self.stream._maybe_raise()  # grpclib says the status only where its own side had ended, too
        assert message is not None, "it ended"
        return message

    async def assignment(self) -> tuple[wire.Assignment, wire.Envelope]:
        message = await self.message()
        assert message.HasField("assignment")
        return message.assignment, wire.Envelope.FromString(message.assignment.envelope.payload)

    async def ended(self) -> GRPCError:
        """Wait for the end; there must be nothing else to be read before it."""
        with pytest.raises(GRPCError) as caught:
            await self.message()
        return caught.value


@dataclass
class Port:
    """policyd's port, and whoever calls there."""

    folder: Path
    teller: FakeTeller
    fanout: Fanout
    publisher: Publisher = field(default_factory=Publisher)
    denials: list[Any] = field(default_factory=list)
    address: tuple[str, int] = ("", 0)
    calls: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        self.policy = PolicyStreamService(self.teller, self.publisher, self.fanout)
        self.credentials = Credentials(DOMAIN, self.fanout.adopt)

    def svid(self, uid: str | None = "uid-1", folder: Path | None = None, **age: float) -> Svid:
        return make_svid(folder or self.folder, DOMAIN, "shop/cart", uid, timedelta(**age))

    @property
    def roots(self) -> tuple[bytes, ...]:
        pem = (self.folder / "root.crt").read_bytes()
        return tuple(root.public_bytes(Encoding.DER) for root in x509.load_pem_x509_certificates(pem))

    async def open(self) -> StreamPort:
        self.credentials.adopt(self.own(), TrustBundles(1, {DOMAIN: self.roots}))
        relay = RelayService(self._deliver, self.fanout)
        port = StreamPort(self.fanout, {"policy": self.policy, "audit": relay})
        host, _, number = (await port.listen("127.0.0.1", 0)).rpartition(":")
        self.address = (host, int(number))
        return port

    async def proxy(self, uid: str | None = "uid-1", svid: Svid | None = None) -> Proxy:
        """A proxy with a connection of its own."""
        channel = VerifiedChannel(*self.address, client_context(self.roots, svid or self.svid(uid)), OWN)
        self.calls.callback(channel.close)
        stream = await self.calls.enter_async_context(_Call(channel))
        return Proxy(stream)

    def wake(self) -> None:
        self.publisher.publish()

    def own(self) -> Svid:
        """A certificate of policyd's."""
        return make_svid(self.folder, DOMAIN, "policyd/policyd", None, timedelta(0))

    @property
    def sessions(self) -> list[Session]:
        return [each for each in self.publisher.listeners if isinstance(each, Session)]

    @property
    def session(self) -> Session:
        (session,) = self.sessions
        return session

    @property
    def state(self) -> str:
        """How the one stream is; nothing while it is no session yet."""
        return self.view.state if self.sessions else ""

    @property
    def view(self) -> StreamView:
        view = self.session.view()
        assert view is not None
        return view

    async def _deliver(self, stream: RelayedStream) -> None:
        await stream.send_initial_metadata()
        while (message := await stream.recv_message()) is not None:
            self.denials.append(message)


class _Call:
    """A call whose end, whatever it was, is the test's to look at."""

    def __init__(self, channel: VerifiedChannel) -> None:
        self._open = PolicyStreamStub(channel).Follow.open()

    async def __aenter__(self) -> Any:
        stream = await self._open.__aenter__()
        await stream.send_request()
        return stream

    async def __aexit__(self, *_: object) -> None:
        with suppress(GRPCError, StreamTerminatedError, ConnectionError):
            await self._open.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)


@pytest.fixture(scope="session")
def root_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("port") / "root"
    create_root(folder, DOMAIN)
    return folder


@pytest.fixture
def teller() -> FakeTeller:
    return FakeTeller()


@pytest.fixture
def times() -> dict[str, float]:
    """Times of the fan-out that are other than usual."""
    return {}


@pytest.fixture
async def port(
    root_folder: Path,
    teller: FakeTeller,
    times: dict[str, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Port]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = Port(root_folder, teller, Fanout(times))
    opened = await made.open()
    try:
        yield made
    finally:
        await made.calls.aclose()
        await opened.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
