"""policyd's own SVID at work: it signs, and it is what streams are accepted with."""

from __future__ import annotations

import ssl

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from identity.spiffe_id import TrustDomain
from servicekit.svid import Svid, TrustBundles
from servicekit.tls import ServerTls, server_context


class Credentials:
    """The current SVID and bundles. A renewal replaces key and chain together, between two signatures."""

    def __init__(self, trust_domain: TrustDomain) -> None:
        self._trust_domain = trust_domain
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._chain: tuple[bytes, ...] = ()
        self.tls: ServerTls | None = None

    def adopt(self, svid: Svid, bundles: TrustBundles) -> None:
        """Use these from now on: new connections, new signatures."""
        self._key, self._chain = svid.load_key(), svid.chain_der
        context = server_context(svid, bundles.of(self._trust_domain), ssl.CERT_REQUIRED)
        if self.tls is None:
            self.tls = ServerTls(context)
        else:
            self.tls.replace(context)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER, leaf first."""
        return self._chain

    def sign(self, message: bytes) -> bytes:
        """Sign with ECDSA P-256 and SHA-256 (ASN.1 DER). Raises RuntimeError before the first SVID."""
        if self._key is None:
            raise RuntimeError("policyd signs nothing before it has an SVID")
        return self._key.sign(message, ec.ECDSA(SHA256()))
