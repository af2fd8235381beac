"""The last look at a certificate before it leaves: a blunt list, read from the DER by code of its own.

What a bug in profile or library might let slip, an extra name, a CA flag, a foreign key, is caught here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from identity import der
from identity.der import DerError, Reader
from identity.material import hash_for
from identity.profile import LeafPlan

_ECDSA = {
    "secp256r1": bytes.fromhex("06082a8648ce3d040302"),
    "secp384r1": bytes.fromhex("06082a8648ce3d040303"),
}
_SUBJECT_KEY, _AUTHORITY_KEY = "551d0e", "551d23"
_SAN, _KEY_USAGE, _CONSTRAINTS, _PURPOSES = "551d11", "551d0f", "551d13", "551d25"
_POD_UID = "69e1c6eff5c7b5b2baed90d6f5e0f9e1ba8901"
_DIGITAL_SIGNATURE = bytes.fromhex("03020780")
_SERVER_AND_CLIENT = bytes.fromhex("301406082b0601050507030106082b06010505070302")
_NOT_A_CA = bytes.fromhex("3000")
_URI, _DNS = 0x86, 0x82


class RecheckError(ValueError):
    """A certificate that isn't the one meant; says where it differs."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the certificate must be, as text and bytes."""

    uri: str
    dns_name: str | None
    pod_uid: str | None
    key: bytes  # SubjectPublicKeyInfo, DER
    validity: tuple[datetime, datetime]
    issuer: x509.Certificate

    @classmethod
    def of(cls, plan: LeafPlan, issuer: x509.Certificate) -> Expected:
        return cls(
            uri=str(plan.identity),
            dns_name=plan.identity.dns_name,
            pod_uid=plan.pod_uid,
            key=plan.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            validity=(plan.not_before, plan.not_after),
            issuer=issuer,
        )


def recheck(leaf: bytes, expected: Expected) -> None:
    """Raise RecheckError where a leaf (DER) is anything else than expected."""
    try:
        outer = Reader(der.whole(leaf, der.SEQUENCE))
        signed = outer.take_whole(der.SEQUENCE)
        algorithm = outer.take(der.SEQUENCE)
        signature = outer.take(der.BIT_STRING)
        outer.end()
        _check_signature(signed, algorithm, signature, expected.issuer)
        _check_body(Reader(der.whole(signed, der.SEQUENCE)), algorithm, expected)
    except DerError as error:
        raise RecheckError(f"its DER: {error}") from error


def _check_signature(signed: bytes, algorithm: bytes, signature: bytes, issuer: x509.Certificate) -> None:
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm != _ECDSA.get(key.curve.name):
        raise RecheckError("signature algorithm")
    try:
        key.verify(signature[1:], signed, ec.ECDSA(hash_for(key.curve)))
    except InvalidSignature as error:
        raise RecheckError("signature") from error


def _check_body(body: Reader, algorithm: bytes, expected: Expected) -> None:
    if body.take(0xA0) != bytes.fromhex("020102"):
        raise RecheckError("version: expected 3")
    serial = body.take(der.INTEGER)
    if not 8 <= len(serial) <= 20 or serial[0] >= 0x80:
        raise RecheckError("serial: expected 64 to 159 bits, positive")
    if body.take(der.SEQUENCE) != algorithm:
        raise RecheckError("signature algorithm: two of them")
    if body.take_whole(der.SEQUENCE) != expected.issuer.subject.public_bytes():
        raise RecheckError("issuer")
    _check_validity(body.take(der.SEQUENCE), expected)
    if body.take(der.SEQUENCE):
        raise RecheckError("subject: expected none")
    if body.take_whole(der.SEQUENCE) != expected.key:
        raise RecheckError("key: not the one of the request")
    extensions = Reader(der.whole(body.take(0xA3), der.SEQUENCE))
    body.end()
    _check_extensions(_read_extensions(extensions), expected)


def _check_validity(found: bytes, expected: Expected) -> None:
    begin, end = expected.validity
    if found != _time(begin) + _time(end):
        raise RecheckError("validity: not the one meant")
    if not begin < end <= expected.issuer.not_valid_after_utc:
        raise RecheckError("validity: beyond the issuer's")


def _time(at: datetime) -> bytes:
    """Write UTC as RFC 5280 §4.1.2.5 wants it: two digits of the year until 2049."""
    if at.year < 2050:
        return _element(der.UTC_TIME, f"{at:%y%m%d%H%M%S}Z")
    return _element(der.GENERALIZED_TIME, f"{at:%Y%m%d%H%M%S}Z")


def _read_extensions(reader: Reader) -> dict[str, tuple[bool, bytes]]:
    """(critical, value) by the OID's bytes in hex."""
    found: dict[str, tuple[bool, bytes]] = {}
    for content in reader.each(der.SEQUENCE):
        extension = Reader(content)
        oid = extension.take(der.OID).hex()
        critical = extension.has(der.BOOLEAN) and extension.take(der.BOOLEAN) == b"\xff"
        if oid in found:
            raise RecheckError(f"extension {oid}: twice")
        found[oid] = (critical, extension.take(der.OCTET_STRING))
        extension.end()
    return found


def _check_extensions(found: dict[str, tuple[bool, bytes]], expected: Expected) -> None:
    wanted: dict[str, tuple[bool, bytes]] = {
        _SAN: (True, _san(expected)),
        _KEY_USAGE: (True, _DIGITAL_SIGNATURE),
        _CONSTRAINTS: (True, _NOT_A_CA),
        _PURPOSES: (False, _SERVER_AND_CLIENT),
    }
    if expected.pod_uid is not None:
        wanted[_POD_UID] = (False, _element(0x0C, expected.pod_uid))
    for oid, value in wanted.items():
        if found.get(oid) != value:
            raise RecheckError(f"extension {oid}: {found.get(oid)!r}, expected {value!r}")
    key_ids = {_SUBJECT_KEY, _AUTHORITY_KEY}
    if found.keys() != wanted.keys() | key_ids or any(found[oid][0] for oid in key_ids):
        raise RecheckError(f"extensions {sorted(found)}: expected {sorted(wanted.keys() | key_ids)}")


def _san(expected: Expected) -> bytes:
    names = _element(_URI, expected.uri)
    if expected.dns_name is not None:
        names += _element(_DNS, expected.dns_name)
    return _wrap(der.SEQUENCE, names)


def _element(tag: int, text: str) -> bytes:
    return _wrap(tag, text.encode("ascii"))


def _wrap(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(octets)]) + octets + content
