"""Requests for certificates as an attacker would write them: DER by hand, so that anything fits in."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

Builder = x509.CertificateSigningRequestBuilder
P256 = bytes.fromhex("06082a8648ce3d030107")
EC_KEY = bytes.fromhex("06072a8648ce3d0201")
RSA_KEY = bytes.fromhex("06092a864886f70d0101010500")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def request(
    key: ec.EllipticCurvePrivateKey, change: Callable[[Builder], Builder] = lambda b: b, subject: str = ""
) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else [])
    return change(Builder().subject_name(name)).sign(key, SHA256()).public_bytes(Encoding.DER)


def with_names(key: ec.EllipticCurvePrivateKey, *names: x509.GeneralName) -> bytes:
    san = x509.SubjectAlternativeName(names)
    return request(key, lambda builder: builder.add_extension(san, critical=False))


def with_key(spki: bytes, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """Ask for a certificate of any key; signed by `key`, or with nonsense."""
    body = element(0x30, element(0x02, b"\0") + element(0x30, b"") + spki + element(0xA0, b""))
    signature = b"nonsense" if key is None else key.sign(body, ec.ECDSA(SHA256()))
    return element(0x30, body + ECDSA_SHA256 + element(0x03, b"\0" + signature))


def rsa_key(bits: int) -> bytes:
    modulus = (1 << (bits - 1)) | 1
    numbers = integer(modulus) + integer(65537)
    return element(0x30, element(0x30, RSA_KEY) + element(0x03, b"\0" + element(0x30, numbers)))


def ec_key(point: bytes, curve: bytes = P256) -> bytes:
    return element(0x30, element(0x30, EC_KEY + curve) + element(0x03, b"\0" + point))


def integer(value: int) -> bytes:
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(octets)]) + octets + content
