"""A certificate request gives a public key and proves that its key is held; it names nobody.

Cheap checks first, the key's type before its signature: what an attacker chooses must not choose our cost.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from identity.refusal import Code, Refused
from identity.spiffe_id import SpiffeId
from servicekit.leaf import X509_FAULTS

MAX_CSR_BYTES = 4 * 1024
_EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")


def accept_csr(der: bytes, identity: SpiffeId) -> ec.EllipticCurvePublicKey:
    """Check a PKCS#10 request and give its key; raises Refused (CSR_INVALID, NAME_REFUSED)."""
    request = _parse(der)
    key = _key_of(request)
    _check_signature(request, key)
    _check_names(request, identity)
    return key


def _parse(der: bytes) -> x509.CertificateSigningRequest:
    if len(der) > MAX_CSR_BYTES:
        raise _invalid(f"{len(der)} bytes, expected at most {MAX_CSR_BYTES}")
    try:
        request = x509.load_der_x509_csr(der)
        encoded = request.public_bytes(Encoding.DER)
    except X509_FAULTS as error:
        raise _invalid("expected PKCS#10 in DER") from error
    if encoded != der:
        raise _invalid("expected DER without anything behind it")
    return request


def _key_of(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    try:
        key = request.public_key()
    except X509_FAULTS as error:
        raise _invalid("its public key can't be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _invalid("expected a P-256 key")
    # One spelling of a key: no compressed point, no explicit curve.
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) not in request.tbs_certrequest_bytes:
        raise _invalid("expected the key as an uncompressed point of the named curve")
    return key


def _check_signature(request: x509.CertificateSigningRequest, key: ec.EllipticCurvePublicKey) -> None:
    try:
        algorithm = request.signature_hash_algorithm
        if not isinstance(algorithm, hashes.SHA256):
            raise _invalid("expected a signature by ECDSA with SHA-256")
        key.verify(request.signature, request.tbs_certrequest_bytes, ec.ECDSA(algorithm))
    except (InvalidSignature, *X509_FAULTS) as error:
        raise _invalid("its signature doesn't verify by its own key") from error


def _check_names(request: x509.CertificateSigningRequest, identity: SpiffeId) -> None:
    """Refuse everything asked for, but the one name that would be given anyway."""
    try:
        subject, attributes, extensions = request.subject, list(request.attributes), request.extensions
    except X509_FAULTS as error:
        raise _invalid("its attributes can't be read") from error
    if subject.rdns:
        raise _refused("a subject")
    if any(attribute.oid != _EXTENSION_REQUEST for attribute in attributes) or len(attributes) > 1:
        raise _refused("attributes other than one extension request")
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                _check_san(list(names), identity)
            case _:
                raise _refused(f"extension {extension.oid.dotted_string}")


def _check_san(names: list[x509.GeneralName], identity: SpiffeId) -> None:
    match names:
        case [x509.UniformResourceIdentifier(value=asked)] if asked == str(identity):
            return
        case _:
            raise _refused(f"names other than the token's, {identity}")


def _invalid(what: str) -> Refused:
    return Refused(Code.CSR_INVALID, f"the certificate request: {what}")


def _refused(what: str) -> Refused:
    return Refused(Code.NAME_REFUSED, f"the certificate request asks for {what}; the identity is the token's")
