"""Roots and issuers from a folder: read with suspicion, all or nothing (security A.8 ID-07, ID-11)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from identity.guarded import MaterialError, read_guarded, settled_folder
from identity.profile import BACKDATE, root_builder
from identity.spiffe_id import TrustDomain
from servicekit.leaf import X509_FAULTS

ROOT_LIFETIME = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self.key, hash_for(self.key.curve))


@dataclass(frozen=True, slots=True)
class Material:
    """What a folder holds: every root to trust, and who signs."""

    roots: tuple[x509.Certificate, ...]
    signer: Signer
    anchor: x509.Certificate  # the root that issued the signer, or is it

    @property
    def signer_is_root(self) -> bool:
        return self.signer.certificate == self.anchor


def load_material(folder: Path, trust_domain: TrustDomain, now: datetime) -> Material:
    """Read `root.crt` with `root.key`, or with `issuer.crt` and `issuer.key`; raises MaterialError.

    `root.crt` may hold several roots, old and new during a rotation; all of them become the trust bundle. A
    mounted Secret is read as of one moment, however the kubelet replaces it meanwhile.
    """
    folder = settled_folder(folder)
    roots = _read_certificates(folder / "root.crt")
    for root in roots:
        _check_ca(root, f"{folder / 'root.crt'}", now)
        _check_trust_domain(root, f"{folder / 'root.crt'}", trust_domain)
    has_issuer = os.path.lexists(folder / "issuer.crt") or os.path.lexists(folder / "issuer.key")
    if not has_issuer:
        key = _read_key(folder / "root.key")
        matching = [root for root in roots if root.public_key() == key.public_key()]
        if not matching:
            raise MaterialError(f"{folder / 'root.key'}: expected the key of a certificate in root.crt")
        return Material(roots, Signer(matching[-1], key), matching[-1])
    key = _read_key(folder / "issuer.key")
    issuer = _read_issuer(folder / "issuer.crt", key, now)
    _check_trust_domain(issuer, f"{folder / 'issuer.crt'}", trust_domain)
    anchor = next((root for root in roots if _issued_by(issuer, root)), None)
    if anchor is None:
        raise MaterialError(f"{folder / 'issuer.crt'}: expected a certificate issued by a root in root.crt")
    return Material(roots, Signer(issuer, key), anchor)


def create_root(folder: Path, trust_domain: TrustDomain, lifetime: timedelta = ROOT_LIFETIME) -> None:
    """Make a new root in a folder of its own (0700), key 0600; raises MaterialError where one is there."""
    now = datetime.now(UTC).replace(microsecond=0)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = root_builder(key.public_key(), trust_domain)
    certificate = builder.not_valid_before(now - BACKDATE).not_valid_after(now + lifetime)
    pem = certificate.sign(key, SHA256()).public_bytes(Encoding.PEM)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _create(folder / "root.key", secret, 0o600)
        _create(folder / "root.crt", pem, 0o644)
    except OSError as error:
        raise MaterialError(f"{error.filename or folder}: {error.strerror}; no root was made") from error


def hash_for(curve: ec.EllipticCurve) -> SHA256 | SHA384:
    """Choose the hash that goes with a curve."""
    return SHA384() if isinstance(curve, ec.SECP384R1) else SHA256()


def _create(path: Path, content: bytes, mode: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(file, "wb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())


def _read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        certificates = tuple(x509.load_pem_x509_certificates(read_guarded(path, secret=False)))
    except MaterialError:
        raise
    except X509_FAULTS as error:
        raise MaterialError(f"{path}: expected certificates in PEM") from error
    return certificates


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    content = read_guarded(path, secret=True)
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MaterialError(f"{path}: expected an unencrypted private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _is_curve(key.curve):
        raise MaterialError(f"{path}: expected a P-256 or P-384 key")
    return key


def _read_issuer(path: Path, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    certificates = _read_certificates(path)
    if len(certificates) != 1:
        raise MaterialError(f"{path}: {len(certificates)} certificates; expected the issuer's alone")
    if certificates[0].public_key() != key.public_key():
        raise MaterialError(f"{path}: its key isn't the one in issuer.key")
    _check_ca(certificates[0], str(path), now)
    return certificates[0]


def _check_ca(certificate: x509.Certificate, place: str, now: datetime) -> None:
    try:
        key, extensions = certificate.public_key(), certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except X509_FAULTS as error:
        raise MaterialError(f"{place}: expected a CA certificate: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not _is_curve(key.curve):
        raise MaterialError(f"{place}: expected a P-256 or P-384 key")
    if not constraints.ca or not usage.key_cert_sign:
        raise MaterialError(f"{place}: expected a CA certificate with keyCertSign")
    if now >= certificate.not_valid_after_utc:
        raise MaterialError(f"{place}: expired at {certificate.not_valid_after_utc.isoformat()}")
    if now < certificate.not_valid_before_utc:
        raise MaterialError(f"{place}: not valid before {certificate.not_valid_before_utc.isoformat()}")


def _check_trust_domain(certificate: x509.Certificate, place: str, trust_domain: TrustDomain) -> None:
    """Refuse a CA that says it is another trust domain's; one that says nothing is fine (X509-SVID §4.1)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    except X509_FAULTS as error:
        raise MaterialError(f"{place}: its names can't be read: {error}") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if any(uri != trust_domain.uri for uri in uris):
        raise MaterialError(f"{place}: it is for {uris}; expected {trust_domain.uri}")


def _issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_curve(curve: ec.EllipticCurve) -> bool:
    return isinstance(curve, ec.SECP256R1 | ec.SECP384R1)
