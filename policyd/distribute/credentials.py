"""policyd's own SVID at work: it signs, and it is what streams are accepted with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity.spiffe_id import TrustDomain
from servicekit.svid import Svid, TrustBundles

Adopt = Callable[[bytes, Sequence[bytes], Sequence[bytes]], None]
"""Key (PKCS #8), chain (leaf first) and roots, in DER; raises ValueError."""


class Credentials:
    """The current SVID and bundles. A renewal replaces key and chain together, between two signatures."""

    def __init__(self, trust_domain: TrustDomain, hand_on: Adopt) -> None:
        """`hand_on`: who accepts streams and signs what is sent on them."""
        self._trust_domain = trust_domain
        self._hand_on = hand_on
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._chain: tuple[bytes, ...] = ()

    def adopt(self, svid: Svid, bundles: TrustBundles) -> None:
        """Use these from now on: new connections, new signatures. Raises ValueError; then the former stay."""
        key, chain = svid.load_key(), svid.chain_der
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self._hand_on(der, chain, bundles.of(self._trust_domain))
        self._key, self._chain = key, chain

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER, leaf first; empty before the first SVID."""
        return self._chain

    def sign(self, message: bytes) -> bytes:
        """Sign with ECDSA P-256 and SHA-256 (ASN.1 DER). Raises RuntimeError before the first SVID."""
        if self._key is None:
            raise RuntimeError("policyd signs nothing before it has an SVID")
        return self._key.sign(message, ec.ECDSA(SHA256()))
