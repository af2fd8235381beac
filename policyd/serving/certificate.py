"""A serving certificate: made and renewed by ourselves, its authority replaced with overlap.

Only the API server trusts this authority, and only where it calls us: a caBundle of ours says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME: Final = timedelta(days=730)
LEAF_LIFETIME: Final = timedelta(days=90)
OVERLAP: Final = timedelta(days=1)
"""How long a new authority is in every caBundle before it signs what we show."""
BACKDATED: Final = timedelta(minutes=5)
"""For clocks that are behind ours."""
_AUTHORITY_NAME: Final = "policyd serving"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)


@dataclass(frozen=True, slots=True)
class Material:
    """What we show, who signed it, who will sign next, and who signed before."""

    authority: Pair
    leaf: Pair
    following: Pair | None = None
    former: bytes = b""
    """The certificate of the authority before: what it signed may still be shown by another replica."""

    @property
    def bundle(self) -> bytes:
        """What the API server is to trust (`caBundle`)."""
        after = self.following.certificate if self.following else b""
        return self.authority.certificate + after + self.former

    @property
    def ends(self) -> datetime:
        """When what we show ends."""
        return self.leaf.parsed.not_valid_after_utc


_PARTS: Final[Mapping[str, Callable[[Material], bytes]]] = {
    "ca.crt": lambda each: each.authority.certificate,
    "ca.key": lambda each: each.authority.key,
    "tls.crt": lambda each: each.leaf.certificate,
    "tls.key": lambda each: each.leaf.key,
    "next.crt": lambda each: each.following.certificate if each.following else b"",
    "next.key": lambda each: each.following.key if each.following else b"",
    "former.crt": lambda each: each.former,
}
"""The names of a Secret's parts."""


def packed(material: Material) -> dict[str, bytes]:
    """Return what a Secret, or a folder, keeps."""
    return {name: part(material) for name, part in _PARTS.items()}


def unpacked(parts: dict[str, bytes]) -> Material | None:
    """Return what was kept; None where it isn't whole, or its parts don't fit together."""
    part = {name: parts.get(name, b"") for name in _PARTS}
    following = Pair(part["next.crt"], part["next.key"]) if part["next.crt"] else None
    material = Material(
        Pair(part["ca.crt"], part["ca.key"]),
        Pair(part["tls.crt"], part["tls.key"]),
        following,
        part["former.crt"],
    )
    try:
        pairs = [material.authority, material.leaf, *([following] if following else [])]
        if not all(_fits(pair) for pair in pairs):
            return None
        material.leaf.parsed.verify_directly_issued_by(material.authority.parsed)
        if material.former:
            x509.load_pem_x509_certificate(material.former)
    except (ValueError, TypeError, InvalidSignature):
        return None
    return material


def _fits(pair: Pair) -> bool:
    key = serialization.load_pem_private_key(pair.key, password=None)
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == pair.parsed.public_key()


def upkeep(material: Material | None, names: Sequence[str], now: datetime) -> Material:
    """Return what is to be shown from now on: the same where nothing is due."""
    if material is None or material.authority.parsed.not_valid_after_utc <= now:
        authority = _authority(now)
        return Material(authority, _leaf(authority, names, now))
    made = _next_authority(material, now)
    following = made.following
    if following is not None and following.parsed.not_valid_before_utc + BACKDATED + OVERLAP <= now:
        leaf = _leaf(following, names, now)
        return Material(following, leaf, None, made.authority.certificate)
    if made.former and x509.load_pem_x509_certificate(made.former).not_valid_after_utc <= now:
        made = replace(made, former=b"")
    if _is_due(made.leaf, now) or _names(made.leaf) != set(names):
        made = replace(made, leaf=_leaf(made.authority, names, now))
    return made


def _next_authority(material: Material, now: datetime) -> Material:
    if material.following is not None or not _is_due(material.authority, now):
        return material
    return replace(material, following=_authority(now))


def _is_due(pair: Pair, now: datetime) -> bool:
    """Whether half of its life is over."""
    read = pair.parsed
    begin, end = read.not_valid_before_utc, read.not_valid_after_utc
    return now >= begin + (end - begin) / 2 or now < begin


def _names(leaf: Pair) -> set[str]:
    names = leaf.parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in names}


def _authority(now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_AUTHORITY_NAME} {now:%Y-%m-%d}")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(now, AUTHORITY_LIFETIME)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
    )
    return _signed(builder, key, key)


def _leaf(authority: Pair, names: Sequence[str], now: datetime) -> Pair:
    issuer, key = authority.parsed, ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey), "ours are of this kind"  # noqa: S101
    until = min(now + LEAF_LIFETIME, issuer.not_valid_after_utc)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = (
        _builder(now, until - now)
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(server, critical=False)
        .add_extension(identifier, critical=False)
    )
    return _signed(builder, key, signer)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(now: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
    begin = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(begin + lifetime)
    )


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> Pair:
    certificate = builder.sign(signer, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), pem)
