"""How a process of the control plane gets its own SVID from identity, and keeps it and its bundles current.

A new key for each certificate; a failure to renew never drops a certificate that is still valid.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.exceptions import GRPCError, StreamTerminatedError

from identity.spiffe_id import SpiffeId, SpiffeIdError, TrustDomain
from policyd_api.v1.identity_grpc import IdentityStub
from policyd_api.v1.identity_pb2 import CertifyRequest, WatchBundlesRequest
from policyd_api.v1.identity_pb2 import TrustBundles as TrustBundlesMessage
from servicekit.channel import VerifiedChannel
from servicekit.svid import Svid, SvidError, TrustBundles
from servicekit.tls import client_context

CALL_SECONDS = 15.0
_BACKOFF_SECONDS = (0.5, 30.0)
_FAULTS = (OSError, GRPCError, StreamTerminatedError, SpiffeIdError, TimeoutError, ValueError)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who we are, whom we ask, and with what."""

    own: SpiffeId
    identity: SpiffeId  # what the server must prove
    host: str
    port: int
    token_file: Path
    roots_file: Path  # PEM, for the first contact; after that the bundles that identity sends


OnChange = Callable[[Svid, TrustBundles], None]


class SvidSource:
    """Our SVID and trust bundles; `on_change` is called with each new pair, the first included."""

    def __init__(self, enrolment: Enrolment, on_change: OnChange) -> None:
        self._enrolment = enrolment
        self._on_change = on_change
        self._svid: Svid | None = None
        self._bundles: TrustBundles | None = None
        self._shows_svid = True

    @property
    def current(self) -> tuple[Svid, TrustBundles] | None:
        """What `on_change` was last called with."""
        if self._svid is None or self._bundles is None:
            return None
        return self._svid, self._bundles

    async def obtain(self) -> tuple[Svid, TrustBundles]:
        """Ask once; raises OSError (PeerError included), GRPCError, TimeoutError or ValueError."""
        enrolment = self._enrolment
        key = ec.generate_private_key(ec.SECP256R1())
        request = CertifyRequest(csr=make_csr(key), token=enrolment.token_file.read_text("ascii").strip())
        channel = self._channel()
        try:
            answer = await IdentityStub(channel).Certify(request, timeout=CALL_SECONDS)
        finally:
            channel.close()
        bundles = read_bundles(answer.bundles)
        svid = Svid.of(key, answer.chain)
        _check_issued(svid, enrolment.own, bundles)
        self._shows_svid = True
        self._adopt(svid, bundles)
        return svid, bundles

    async def obtain_patiently(self) -> tuple[Svid, TrustBundles]:
        """Ask until there is an answer."""
        delay = _BACKOFF_SECONDS[0]
        while True:
            try:
                return await self.obtain()
            except _FAULTS as error:
                # Shown a certificate that it no longer accepts, identity ends the handshake: try without.
                self._shows_svid = not self._shows_svid
                _log.warning("svid_not_obtained", problem=str(error), identity=str(self._enrolment.identity))
            await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 — jitter
            delay = min(2 * delay, _BACKOFF_SECONDS[1])

    async def run(self) -> None:
        """Renew at half-life with jitter, and follow the bundles, until cancelled. After `obtain`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew())
            tasks.create_task(self._follow_bundles())

    async def _renew(self) -> None:
        while self._svid is not None:
            left = (self._svid.not_after - datetime.now(UTC)).total_seconds()
            await asyncio.sleep(max(1.0, left / 2 * random.uniform(0.9, 1.1)))  # noqa: S311 — jitter
            await self.obtain_patiently()

    async def _follow_bundles(self) -> None:
        delay = _BACKOFF_SECONDS[0]
        while True:
            channel = self._channel()
            try:
                async with IdentityStub(channel).WatchBundles.open() as stream:
                    await stream.send_message(WatchBundlesRequest(), end=True)
                    async for message in stream:
                        delay = _BACKOFF_SECONDS[0]
                        self._adopt(self._svid, read_bundles(message))
            except _FAULTS as error:
                _log.info("bundle_stream_ended", problem=str(error))
            finally:
                channel.close()
            await asyncio.sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 — jitter
            delay = min(2 * delay, _BACKOFF_SECONDS[1])

    def _adopt(self, svid: Svid | None, bundles: TrustBundles) -> None:
        """Take over what is new; an older state of the bundles, from a slower stream, is passed over."""
        if self._bundles is not None and bundles.sequence < self._bundles.sequence:
            bundles = self._bundles
        changed = svid is not self._svid or bundles != self._bundles
        self._svid, self._bundles = svid, bundles
        if changed and svid is not None:
            self._on_change(svid, bundles)

    def _channel(self) -> VerifiedChannel:
        enrolment, svid = self._enrolment, self._svid
        if svid is not None and (not self._shows_svid or svid.not_after <= datetime.now(UTC)):
            svid = None
        if self._bundles is None:
            pem = enrolment.roots_file.read_bytes()
            roots = tuple(_der(root) for root in x509.load_pem_x509_certificates(pem))
        else:
            roots = self._bundles.of(enrolment.own.trust_domain)
        return VerifiedChannel(
            enrolment.host, enrolment.port, client_context(roots, svid), enrolment.identity
        )


def make_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Make a request that names nobody (DER): identity takes the name from the token."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def read_bundles(message: TrustBundlesMessage) -> TrustBundles:
    """Read a message; raises ValueError where a trust domain is there twice or a root can't be read."""
    roots: dict[TrustDomain, tuple[bytes, ...]] = {}
    for bundle in message.bundles:
        name = TrustDomain(bundle.trust_domain)
        if name in roots:
            raise ValueError(f"trust bundles: {name} is there twice")
        roots[name] = tuple(_der(x509.load_der_x509_certificate(root)) for root in bundle.roots)
    return TrustBundles(message.sequence, roots)


def _check_issued(svid: Svid, own: SpiffeId, bundles: TrustBundles) -> None:
    """Refuse a certificate that isn't ours, isn't valid now or doesn't verify (security A.2 TLS-18)."""
    if svid.identity != own:
        raise SvidError(f"identity issued {svid.identity}; expected {own}")
    if not svid.not_before <= datetime.now(UTC) < svid.not_after:
        raise SvidError("identity issued a certificate that isn't valid now; compare the clocks")
    chain = [x509.load_der_x509_certificate(der) for der in svid.chain_der]
    roots = [x509.load_der_x509_certificate(der) for der in bundles.of(own.trust_domain)]
    linked = all(_issued_by(one, above) for one, above in pairwise(chain))
    if not linked or not any(_issued_by(chain[-1], root) for root in roots):
        raise SvidError("identity issued a certificate that doesn't verify by its own trust bundle")


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
