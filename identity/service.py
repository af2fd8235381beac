"""The gRPC face: Certify and WatchBundles (proto/policyd/v1/identity.proto)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from identity.issuance import Asked, Issuance
from identity.metrics import Metrics
from identity.refusal import Code, Refused
from policyd_api.v1.identity_grpc import IdentityBase
from policyd_api.v1.identity_pb2 import CertifyRequest, CertifyResponse, TrustBundle
from policyd_api.v1.identity_pb2 import TrustBundles as TrustBundlesMessage
from servicekit.leaf import Leaf, LeafError
from servicekit.svid import TrustBundles
from servicekit.tls import peer_leaf

REQUEST_SECONDS = 10.0
"""How long a client may take to send its one message."""

STATUS = {
    Code.REQUEST_INVALID: Status.INVALID_ARGUMENT,
    Code.TOKEN_INVALID: Status.UNAUTHENTICATED,
    Code.TOKEN_EXPIRED: Status.UNAUTHENTICATED,
    Code.TOKEN_REVIEWER_UNAVAILABLE: Status.UNAVAILABLE,
    Code.RATE_LIMITED: Status.RESOURCE_EXHAUSTED,
    Code.PEER_MISMATCH: Status.PERMISSION_DENIED,
    Code.REVOKED: Status.PERMISSION_DENIED,
    Code.POD_GONE: Status.PERMISSION_DENIED,
    Code.CLUSTER_UNKNOWN: Status.UNAVAILABLE,
    Code.CSR_INVALID: Status.INVALID_ARGUMENT,
    Code.NAME_REFUSED: Status.PERMISSION_DENIED,
    Code.NO_ISSUER: Status.UNAVAILABLE,
    Code.CLOCK_REGRESSION: Status.UNAVAILABLE,
    Code.AUDIT_UNAVAILABLE: Status.UNAVAILABLE,
    Code.INTERNAL: Status.INTERNAL,
}

_log = structlog.get_logger(__name__)


class BundleFeed:
    """The trust bundles as they are now, and a wake-up for each change."""

    def __init__(self, bundles: TrustBundles) -> None:
        self._bundles = bundles
        self._message = bundles_message(bundles)
        self._changed = asyncio.Event()

    @property
    def latest(self) -> TrustBundles:
        return self._bundles

    @property
    def message(self) -> TrustBundlesMessage:
        """The latest as it is sent; not to be changed."""
        return self._message

    def publish(self, bundles: TrustBundles) -> None:
        self._bundles = bundles
        self._message = bundles_message(bundles)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_past(self, sequence: int) -> TrustBundlesMessage:
        """Return the latest as soon as it isn't `sequence` any more."""
        while self._bundles.sequence == sequence:
            await self._changed.wait()
        return self._message


class IdentityService(IdentityBase):
    """Answers clients; every failure is a code of ours, never a traceback."""

    def __init__(self, issuance: Issuance, feed: BundleFeed, metrics: Metrics) -> None:
        self._issuance = issuance
        self._feed = feed
        self._metrics = metrics
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def finished(self) -> None:
        """Return once no Certify is under way."""
        await self._none_open.wait()

    async def Certify(self, stream: Any) -> None:  # noqa: N802 — the contract's name
        self._open += 1
        self._none_open.clear()
        try:
            await self._answer(stream)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def _answer(self, stream: Any) -> None:
        begin = time.monotonic()
        try:
            answer = await self._certify(stream)
        except Refused as refusal:
            self._metrics.refused(str(refusal.code))
            _log.info("refused", code=str(refusal.code), detail=refusal.detail)
            raise GRPCError(STATUS[refusal.code], str(refusal)) from refusal
        except (GRPCError, asyncio.CancelledError):
            raise
        except Exception as error:
            self._metrics.refused(str(Code.INTERNAL))
            _log.exception("certify_failed")
            raise GRPCError(Status.INTERNAL, f"{Code.INTERNAL}: see identity's log") from error
        self._metrics.issued(time.monotonic() - begin)
        await stream.send_message(answer)

    async def WatchBundles(self, stream: Any) -> None:  # noqa: N802 — the contract's name
        try:
            await _receive(stream)
        except Refused as refusal:
            raise GRPCError(STATUS[refusal.code], str(refusal)) from refusal
        message = self._feed.message
        while True:
            await stream.send_message(message)
            message = await self._feed.wait_past(message.sequence)

    async def _certify(self, stream: Any) -> CertifyResponse:
        request: CertifyRequest = await _receive(stream)
        asked = Asked(request.csr, request.token, _shown(stream), _address(stream))
        issued = await self._issuance.certify(asked)
        return CertifyResponse(
            chain=issued.chain,
            bundles=self._feed.message,
            not_after_millis=int(issued.plan.not_after.timestamp() * 1000),
            server_time_millis=time.time_ns() // 1_000_000,
        )


def bundles_message(bundles: TrustBundles) -> TrustBundlesMessage:
    ordered = sorted(bundles.roots.items(), key=lambda item: item[0].name)
    return TrustBundlesMessage(
        sequence=bundles.sequence,
        bundles=[TrustBundle(trust_domain=str(name), roots=roots) for name, roots in ordered],
    )


async def _receive(stream: Any) -> Any:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            message = await stream.recv_message()
    except (TimeoutError, NotImplementedError, AssertionError) as error:
        raise Refused(Code.REQUEST_INVALID, "expected one whole uncompressed message, within 10 s") from error
    if message is None:
        raise Refused(Code.REQUEST_INVALID, "expected one message, got none")
    return message


def _shown(stream: Any) -> Leaf | None:
    # grpclib's Peer gives the certificate without its extensions; the transport has the whole.
    try:
        return peer_leaf(stream.peer._transport)
    except LeafError as error:
        raise Refused(Code.PEER_MISMATCH, f"the certificate shown: {error}") from error


def _address(stream: Any) -> str:
    address = stream.peer.addr()
    return "" if address is None else f"{address[0]}"
