"""One proxy's policy stream, from its Hello to its end (design §8).

At most one assignment is unacknowledged at a time, and each is made from the newest state: a slow proxy costs
one message, and never sees a state that is no longer true.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from policyd.distribute.basis import behind
from policyd.distribute.envelope import Hashes, Signer, Standing, Subject, sign_confirmation, sign_envelope
from policyd.distribute.refusals import invalid, permission_denied, too_slow
from policyd_api.v1 import stream_pb2 as wire
from servicekit.leaf import Leaf

HELLO_SECONDS = 10.0
SLOW_SECONDS = 30.0
CONFIRM_SECONDS = 60.0
MOST_SERVICES = 1024

State = Literal["connected", "waiting", "assigned", "enforcing", "refused"]
Wire = Stream[wire.ProxyMessage, wire.ControllerMessage]


@dataclass(frozen=True, slots=True)
class Contents:
    """All that one pod is to know now, as bytes and by their hashes."""

    subject: Subject
    hashes: Hashes
    snapshot: bytes
    facts: bytes
    discovery: bytes
    narrowed: int = 0
    """Rules that refuse only because the proxy is too old for them."""


class Teller(Protocol):
    """What a session asks of the controller. All of it is about this very moment."""

    def contents(self, caller: Leaf, services: tuple[str, ...], reader_version: int) -> Contents:
        """Return what the caller's pod enforces; raises GRPCError where there is none, or it is revoked."""

    def standing(self) -> Standing:
        """Return epoch, basis and time."""


@dataclass(slots=True)
class Told:
    """The last assignment: what, with which serial, when (loop time), and whether the proxy has answered."""

    hashes: Hashes
    serial: int
    at: float
    answered: bool = False


class Session:
    """The state of one stream. Everything but `run` is called from its two tasks, or only reads."""

    def __init__(self, stream: Wire, caller: Leaf, teller: Teller, signer: Signer) -> None:
        self.caller = caller
        self.pod_key = caller.pod_uid or str(caller.identity)
        self.state: State = "connected"
        self.detail = ""
        self.workload = ""
        self.enforced = b""
        self.wanted = b""
        self.narrowed = 0
        self._stream = stream
        self._teller = teller
        self._signer = signer
        self._hello: wire.Hello | None = None
        self._told: Told | None = None
        self._serial = 0
        self._confirmed_at = 0.0
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._log = structlog.get_logger().bind(identity=str(caller.identity), pod_uid=caller.pod_uid)

    def wake(self) -> None:
        """Look at the newest state, soon."""
        self._changed.set()

    @property
    def reader_version(self) -> int | None:
        """The highest snapshot version that the proxy reads; None before its Hello."""
        return None if self._hello is None else self._hello.reader_version

    @property
    def is_current(self) -> bool:
        """Whether the proxy has acknowledged all it is to know now: table, pod facts, discovery."""
        told, hello = self._told, self._hello
        if told is None or hello is None or self.state != "enforcing":
            return False
        try:
            contents = self._teller.contents(self.caller, tuple(hello.services), hello.reader_version)
        except GRPCError:
            return False
        return told.hashes == contents.hashes

    async def run(self) -> None:
        """Serve until the proxy goes or must go (GRPCError)."""
        tasks = {asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._tell())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        while (message := await self._stream.recv_message()) is not None:
            given = [name for name in ("hello", "ack", "nack") if message.HasField(name)]
            if len(given) != 1 or (self._hello is None and given != ["hello"]):
                raise invalid("MESSAGE_UNEXPECTED", f"expected one of hello, ack, nack, got {given}")
            if message.HasField("hello"):
                self._on_hello(message.hello)
            elif message.HasField("ack"):
                self._on_ack(message.ack)
            else:
                self._on_nack(message.nack)
            self.wake()

    def _on_hello(self, hello: wire.Hello) -> None:
        if len(hello.services) > MOST_SERVICES:
            raise invalid("TOO_MANY_SERVICES", f"{len(hello.services)}: expected at most {MOST_SERVICES}")
        if self._hello is not None and hello.HasField("held"):
            raise invalid("MESSAGE_UNEXPECTED", "held in a later Hello: acks say what is held")
        if self._hello is None and hello.HasField("held"):
            self.enforced = hello.held.snapshot_sha256
        held = self._hello.held if self._hello is not None and self._hello.HasField("held") else None
        self._hello = hello
        if held is not None:
            hello.held.CopyFrom(held)
        self._log.info("proxy_hello", services=len(hello.services), reader_version=hello.reader_version)

    def _on_ack(self, ack: wire.Ack) -> None:
        told = self._answered(ack.serial)
        if ack.snapshot_sha256 != told.hashes.snapshot:
            raise invalid("ACK_UNKNOWN", f"serial {ack.serial} was another snapshot")
        self.enforced, self.state, self.detail = ack.snapshot_sha256, "enforcing", ""
        took = round((self._loop.time() - told.at) * 1000, 1)
        self._log.info("proxy_enforces", version=_text(ack.snapshot_sha256), serial=ack.serial, millis=took)

    def _on_nack(self, nack: wire.Nack) -> None:
        told = self._answered(nack.serial)
        self.state, self.detail = "refused", f"{nack.code}: {nack.detail}"[:300]
        self._log.warning("proxy_refused", version=_text(told.hashes.snapshot), reason=self.detail)

    def _answered(self, serial: int) -> Told:
        told = self._told
        if told is None or told.answered or told.serial != serial:
            raise invalid("ACK_UNKNOWN", f"serial {serial} is not open")
        told.answered = True
        return told

    async def _tell(self) -> None:
        while True:
            self._changed.clear()
            pause = (
                await self._step()
                if self._hello is not None
                else self._until(self._opened_at + HELLO_SECONDS)
            )
            if pause <= 0:
                raise too_slow("HELLO_OVERDUE" if self._hello is None else "ACK_OVERDUE", "no answer in time")
            try:
                await asyncio.wait_for(self._changed.wait(), pause)
            except TimeoutError:
                continue

    async def _step(self) -> float:
        """Say what is due; return the seconds until something can be due, 0 or less for a late proxy."""
        hello = self._hello
        if hello is None:
            raise AssertionError("_step is called after the Hello")
        contents = self._teller.contents(self.caller, tuple(hello.services), hello.reader_version)
        self.workload, self.wanted = contents.subject.workload, contents.hashes.snapshot
        self.narrowed = contents.narrowed
        if self._told is not None and not self._told.answered:
            return self._until(self._told.at + SLOW_SECONDS)
        standing = self._teller.standing()
        lag = behind(standing.basis, standing.epoch, hello.held if hello.HasField("held") else None)
        if lag is not None:
            if self.detail != lag:
                self._log.warning("proxy_is_ahead", basis=lag)
            self.state, self.detail = "waiting", lag
            return self._until_expiry()
        if self._told is None or self._told.hashes != contents.hashes:
            await self._assign(contents, standing)
            return SLOW_SECONDS
        if self._loop.time() >= self._confirmed_at + CONFIRM_SECONDS:
            await self._confirm(contents, standing)
        return min(self._until(self._confirmed_at + CONFIRM_SECONDS), self._until_expiry())

    async def _assign(self, contents: Contents, standing: Standing) -> None:
        self._serial += 1
        before = self._told_or_held()
        envelope = sign_envelope(self._signer, contents.subject, contents.hashes, standing, self._serial)
        assignment = wire.Assignment(
            envelope=envelope,
            snapshot=b"" if before.snapshot == contents.hashes.snapshot else contents.snapshot,
            facts=b"" if before.facts == contents.hashes.facts else contents.facts,
            discovery=b"" if before.discovery == contents.hashes.discovery else contents.discovery,
        )
        self._told = Told(contents.hashes, self._serial, self._loop.time())
        self._confirmed_at = self._loop.time()
        self.state, self.detail = "assigned", ""
        await self._send(wire.ControllerMessage(assignment=assignment))

    def _told_or_held(self) -> Hashes:
        """Return what the proxy has for certain: what it last acknowledged, or announced."""
        if self._told is not None:
            refused = self.state == "refused"
            return Hashes(b"", b"", b"") if refused else self._told.hashes
        held = self._hello.held if self._hello is not None else wire.Held()
        return Hashes(held.snapshot_sha256, held.facts_sha256, held.discovery_sha256)

    async def _confirm(self, contents: Contents, standing: Standing) -> None:
        self._confirmed_at = self._loop.time()
        if self.state == "enforcing":  # nothing is confirmed to a proxy that refused it
            signed = sign_confirmation(self._signer, contents.subject, contents.hashes, standing)
            await self._send(wire.ControllerMessage(confirmation=signed))

    async def _send(self, message: wire.ControllerMessage) -> None:
        try:
            await asyncio.wait_for(self._stream.send_message(message), SLOW_SECONDS)
        except TimeoutError:
            raise too_slow("STREAM_NOT_READ", f"nothing read for {SLOW_SECONDS:.0f} s") from None

    def _until(self, at: float) -> float:
        return at - self._loop.time()

    def _until_expiry(self) -> float:
        """Seconds until the caller's SVID ends; a stream doesn't outlive it. Raises GRPCError once it has."""
        remaining = self.caller.not_after.timestamp() - self._teller.standing().at_millis / 1000
        if remaining <= 0:
            raise permission_denied("SVID_EXPIRED", "connect again with the renewed one")
        return max(0.001, min(remaining, CONFIRM_SECONDS))


def _text(sha256: bytes) -> str:
    return f"sha256:{sha256.hex()}"
