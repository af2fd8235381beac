"""Certificates for the load and for the peers, of the very root and shape that identity's own have.

Two things differ: the key lies in a file, since Envoy, HAProxy and the load read files, and the subject
repeats the SPIFFE ID, since HAProxy 2.6 can't match a URI SAN.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.proxies.model import NAMESPACE, TRUST_DOMAIN
from identity.material import load_material
from identity.profile import intermediate_builder, leaf_names, new_serial
from identity.spiffe_id import SpiffeId
from policyd.up.tokens import write_private

_LIFETIME = timedelta(hours=24)
_BACKDATE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Files in PEM: the chain (leaf, intermediate), its key, and both in one."""

    chain: Path
    key: Path
    both: Path


class Issuer:
    """An intermediate below identity's root, as identity makes one for itself."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Certificates are written into `folder`."""
        self._folder = folder
        self._now = datetime.now(UTC).replace(microsecond=0)
        signer = load_material(root, TRUST_DOMAIN, self._now).signer
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = intermediate_builder(self._key.public_key(), TRUST_DOMAIN, signer.certificate)
        self._certificate = signer.sign(self._lasting(builder))

    def issue(self, account: str) -> KeyPair:
        """Return a new key pair of an account."""
        identity = SpiffeId.of_service_account(TRUST_DOMAIN, NAMESPACE, account)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._lasting(_leaf(identity, key.public_key(), self._certificate)).sign(self._key, SHA256())
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, self._certificate))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pair = KeyPair(*(self._folder / f"{account}.{end}" for end in ("pem", "key", "both.pem")))
        write_private(pair.chain, chain)
        write_private(pair.key, secret)
        write_private(pair.both, chain + secret)
        return pair

    def _lasting(self, builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        return builder.not_valid_before(self._now - _BACKDATE).not_valid_after(self._now + _LIFETIME)


def _leaf(
    identity: SpiffeId, key: ec.EllipticCurvePublicKey, issuer: x509.Certificate
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(identity))]))
        .issuer_name(issuer.subject)
        .serial_number(new_serial())
        .public_key(key)
        .add_extension(leaf_names(identity), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(both_ends, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False
        )
    )
