"""A process's own X.509-SVID, and the trust bundles by which it verifies others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from identity.spiffe_id import SpiffeId, TrustDomain
from servicekit.leaf import read_leaf


class SvidError(ValueError):
    """Key, chain and identity don't belong together; the message says which."""


@dataclass(frozen=True, slots=True)
class Svid:
    """Key and chain of one process. Frozen: a renewal makes another."""

    key_pem: bytes = field(repr=False)
    chain_pem: tuple[bytes, ...] = field(repr=False)  # leaf first, no root
    identity: SpiffeId
    pod_uid: str | None
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, key: ec.EllipticCurvePrivateKey, chain_der: Sequence[bytes]) -> Svid:
        """Put a key and its chain together; raises SvidError (no match), LeafError (no SVID)."""
        if not chain_der:
            raise SvidError("chain: expected at least the leaf, got none")
        certificates = [x509.load_der_x509_certificate(der) for der in chain_der]
        if certificates[0].public_key() != key.public_key():
            raise SvidError("the leaf's key isn't ours")
        leaf = read_leaf(chain_der[0])
        return cls(
            key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            chain_pem=tuple(certificate.public_bytes(Encoding.PEM) for certificate in certificates),
            identity=leaf.identity,
            pod_uid=leaf.pod_uid,
            not_before=leaf.not_before,
            not_after=leaf.not_after,
        )

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """Leaf first, as messages carry it."""
        return tuple(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in self.chain_pem)

    def load_key(self) -> ec.EllipticCurvePrivateKey:
        """Load the private key, for signing; keep the result rather than calling this per signature."""
        key = load_pem_private_key(self.key_pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SvidError("the key isn't an elliptic-curve key")
        return key


@dataclass(frozen=True, slots=True)
class TrustBundles:
    """Roots by trust domain (DER). A domain that is missing, or has no root: nothing of it verifies."""

    sequence: int
    roots: Mapping[TrustDomain, tuple[bytes, ...]]

    def of(self, trust_domain: TrustDomain) -> tuple[bytes, ...]:
        return self.roots.get(trust_domain, ())
