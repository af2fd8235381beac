"""The gRPC service: a call becomes a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Stream

from policyd.distribute.envelope import Signer
from policyd.distribute.publish import Publisher
from policyd.distribute.refusals import permission_denied
from policyd.distribute.session import Session, Teller
from policyd_api.v1 import stream_pb2 as wire
from policyd_api.v1.stream_grpc import PolicyStreamBase
from servicekit.leaf import Leaf, LeafError
from servicekit.tls import peer_leaf

Identify = Callable[[Any], Leaf]


class PolicyStreamService(PolicyStreamBase):
    """Accepts streams. Handshakes have verified the peer's chain; what it says is read here."""

    def __init__(self, teller: Teller, publisher: Publisher, signer: Signer) -> None:
        self._teller = teller
        self._publisher = publisher
        self._signer = signer

    async def Follow(  # noqa: N802 — the name is the contract's
        self, stream: Stream[wire.ProxyMessage, wire.ControllerMessage]
    ) -> None:
        """Serve one proxy until either end ends it."""
        leaf = leaf_of(stream)
        log = structlog.get_logger().bind(identity=str(leaf.identity), pod_uid=leaf.pod_uid)
        session = Session(stream, leaf, self._teller, self._signer)
        try:
            self._teller.contents(leaf, (), _ANY_READER)  # who may have nothing isn't listened to
            with self._publisher.enrolled(session):
                await session.run()
        except GRPCError as error:
            log.warning("stream_refused", status=error.status.name, problem=error.message)
            raise
        except (StreamTerminatedError, ConnectionError):
            log.info("proxy_gone")
        else:
            log.info("proxy_left")


_ANY_READER = 2**31 - 1


def leaf_of(stream: Any) -> Leaf:
    """Return the peer's leaf. Raises GRPCError where it is none.

    grpclib keeps the transport to itself, and there is no other way to it.
    """
    try:
        leaf = peer_leaf(stream.peer._transport)
    except LeafError as error:
        raise permission_denied("SVID_INVALID", str(error)) from error
    if leaf is None:
        raise permission_denied("SVID_MISSING", "no client certificate")
    return leaf
