"""The policy streams: each change is turned into what every proxy is to know, and handed to the fan-out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from policyd.distribute.publish import Publisher
from policyd.distribute.refusals import permission_denied
from policyd.distribute.session import Session, Teller
from policyd.engine import Delivered, Ended, Fanout, Greeted, Nacked, Opened
from policyd.turns import SLICE_SECONDS, Turns
from policyd_api.v1 import stream_pb2 as wire
from servicekit.leaf import Leaf, LeafError, read_leaf

STAND_SECONDS = 5.0
"""How often it is said that nothing newer is known; confirmations take their time from it."""

_ANY_READER = 2**31 - 1


class PolicyStreamService:
    """Accepts streams. Handshakes have verified the peer's chain; what its leaf says is read here."""

    def __init__(self, teller: Teller, publisher: Publisher, fanout: Fanout) -> None:
        self._teller = teller
        self._publisher = publisher
        self._fanout = fanout
        self._sessions: dict[int, Session] = {}
        self._due: Turns[Session] = Turns()
        self._beat: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to say, again and again, as of when all that was told is the newest."""
        self._beat = asyncio.get_running_loop().call_later(STAND_SECONDS, self.start)
        if self._teller.broken is None:
            self._settle()
        else:
            self._publisher.publish()

    def close(self) -> None:
        """Say it no more."""
        if self._beat is not None:
            self._beat.cancel()

    def opened(self, event: Opened) -> None:
        """Admit a stream, or end it: who may have nothing isn't listened to."""
        self._attempt(event.stream, lambda: self._admit(event))

    def on_event(self, event: Greeted | Nacked | Delivered | Ended) -> None:
        """Take what happened on a stream of ours."""
        session = self._sessions.get(event.stream)
        if session is None:
            return  # we ended it a moment ago
        log = structlog.get_logger().bind(
            identity=str(session.caller.identity), pod_uid=session.caller.pod_uid
        )
        if isinstance(event, Greeted):
            hello = wire.Hello.FromString(event.message)
            asked = len(hello.services) + len(hello.addresses)
            log.info("proxy_hello", services=asked, reader_version=hello.reader_version)
            session.greet(hello)
        elif isinstance(event, Nacked):
            log.warning("proxy_refused", version=f"sha256:{event.snapshot.hex()}", reason=event.reason)
        elif isinstance(event, Ended):
            self._forget(event.stream)
            if event.status is None:
                log.info("proxy_left")
            else:
                log.warning("stream_refused", status=Status(event.status).name, problem=event.problem)

    def _admit(self, event: Opened) -> None:
        leaf = leaf_of(event.leaf)
        self._teller.contents(leaf, (), _ANY_READER)
        session = Session(event.stream, leaf, self._fanout, self._is_due)
        self._publisher.enrol(session)
        self._sessions[event.stream] = session
        self._fanout.admit(event.stream, int(leaf.not_after.timestamp() * 1000))

    def _is_due(self, session: Session) -> None:
        if not self._due:
            asyncio.get_running_loop().call_soon(self._look)
        self._due.add(session.namespace, session)

    def _look(self) -> None:
        """Look at some of the sessions that were woken. All of it is of one moment."""
        loop = asyncio.get_running_loop()
        standing, until = self._teller.standing(), loop.time() + SLICE_SECONDS
        self._fanout.stand(standing, settled=False)
        while self._due and loop.time() < until:
            session = self._due.next()
            self._attempt(session.stream, partial(session.look, self._teller, standing))
        if self._due:
            loop.call_soon(self._look)
        else:
            self._settle()

    def _settle(self) -> None:
        """Say that every proxy has been told the newest, where that is so."""
        if not self._due and self._publisher.is_settled and self._teller.broken is None:
            self._fanout.stand(self._teller.standing(), settled=True)

    def _attempt(self, stream: int, work: Callable[[], None]) -> None:
        """Do something for a stream; whatever goes wrong ends it: an older table must not be confirmed."""
        try:
            work()
        except GRPCError as error:
            self._end(stream, error)
        except Exception:
            structlog.get_logger().exception("stream_failed")
            self._end(stream, GRPCError(Status.INTERNAL, "INTERNAL: policyd's log says more"))

    def _end(self, stream: int, error: GRPCError) -> None:
        session = self._forget(stream)
        identity = None if session is None else str(session.caller.identity)
        log = structlog.get_logger()
        log.warning("stream_refused", identity=identity, status=error.status.name, problem=error.message)
        self._fanout.end(stream, error.status.value, error.message or "")

    def _forget(self, stream: int) -> Session | None:
        session = self._sessions.pop(stream, None)
        if session is not None:
            self._due.discard(session.namespace, session)
            self._publisher.leave(session)
        return session


def leaf_of(der: bytes) -> Leaf:
    """Return what the peer's leaf says. Raises GRPCError where it is no workload's."""
    try:
        return read_leaf(der)
    except LeafError as error:
        raise permission_denied("SVID_INVALID", str(error)) from error
