"""One proxy's policy stream as policyd knows it: who it is, and what it is to know (design §8).

The stream itself (what was told, acknowledged, owed) is the fan-out's: docs/decisions/0009-fan-out.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog
from grpclib.exceptions import GRPCError

from policyd.distribute.basis import behind
from policyd.distribute.envelope import Hashes, Standing, Subject
from policyd.engine import Fanout, StreamView
from policyd_api.v1 import stream_pb2 as wire
from servicekit.leaf import Leaf

State = Literal["connected", "waiting", "assigned", "enforcing", "refused"]


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
    """What sessions ask of the controller. All of it is about this very moment."""

    @property
    def broken(self) -> str | None:
        """Why nothing is told or confirmed to anybody."""

    def contents(self, caller: Leaf, services: tuple[str, ...], reader_version: int) -> Contents:
        """Return what the caller's pod enforces; raises GRPCError where there is none, or it is revoked."""

    def standing(self) -> Standing:
        """Return epoch, basis and time."""

    def hasten(self, held: wire.Held) -> None:
        """Find out soon whether there is more: a proxy holds more than we know."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the proxy said of itself."""

    reader_version: int
    services: tuple[str, ...]
    """By name, or by address."""


class Session:
    """What is known of one stream. `due` is called where somebody should `look`."""

    __slots__ = (
        "_asked",
        "_due",
        "_fanout",
        "_held",
        "_lag",
        "caller",
        "narrowed",
        "pod_key",
        "stream",
        "wanted",
        "workload",
    )

    def __init__(self, stream: int, caller: Leaf, fanout: Fanout, due: Callable[[Session], None]) -> None:
        self.stream = stream
        self.caller = caller
        self.pod_key = caller.pod_uid or str(caller.identity)
        self.workload = ""
        self.wanted = b""
        self.narrowed = 0
        self._fanout = fanout
        self._due = due
        self._asked: _Asked | None = None
        self._held: wire.Held | None = None
        self._lag: str | None = None

    @property
    def reader_version(self) -> int | None:
        """The highest snapshot version that the proxy reads; None before its Hello."""
        return None if self._asked is None else self._asked.reader_version

    @property
    def namespace(self) -> str:
        """Of its service account; "" for every identity of another form."""
        account = self.caller.identity.service_account
        return "" if account is None else account[0]

    @property
    def is_withheld(self) -> bool:
        """Whether the proxy is told nothing, because it has been told more than we know."""
        return self._lag is not None

    def wake(self) -> None:
        """Look at the newest state, soon. Whoever hasn't said its Hello is told nothing yet."""
        if self._asked is not None:
            self._due(self)

    def greet(self, hello: wire.Hello) -> None:
        """Take a Hello; a later one says nothing of what is held, for acks do."""
        if self._asked is None and hello.HasField("held"):
            self._held = wire.Held()
            self._held.CopyFrom(hello.held)
        self._asked = _Asked(hello.reader_version, (*hello.services, *hello.addresses))
        self.wake()

    def look(self, teller: Teller, standing: Standing) -> None:
        """Say what the proxy is to know as of `standing`. Raises GRPCError where the stream must end."""
        if self._asked is None:
            return
        contents = teller.contents(self.caller, self._asked.services, self._asked.reader_version)
        self.workload, self.wanted = contents.subject.workload, contents.hashes.snapshot
        self.narrowed = contents.narrowed
        lag = behind(standing.basis, standing.epoch, self._held)
        if lag is None:
            self._fanout.tell(self.stream, contents)
        elif self._held is not None:
            if lag != self._lag:
                log = structlog.get_logger()
                log.warning("proxy_is_ahead", identity=str(self.caller.identity), basis=lag)
                teller.hasten(self._held)
            self._fanout.withhold(self.stream, lag)
        self._lag = lag

    def view(self) -> StreamView | None:
        """Return how the stream is; None where it is over."""
        return self._fanout.view(self.stream)

    def is_current(self, teller: Teller, view: StreamView) -> bool:
        """Whether the proxy has acknowledged all it is to know now: table, pod facts, discovery."""
        if self._asked is None or view.state != "enforcing":
            return False
        try:
            contents = teller.contents(self.caller, self._asked.services, self._asked.reader_version)
        except GRPCError:
            return False
        hashes = contents.hashes
        return view.told == (hashes.snapshot, hashes.facts, hashes.discovery)
