"""What a peer's leaf says, and whether it may (X509-SVID.md §2–§5). Chains are verified by TLS."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.spiffe_id import SpiffeId, SpiffeIdError

POD_UID_UUID = "30c6dfd6-3b56-4eb6-90ad-d7079c2e8481"
POD_UID_OID = x509.ObjectIdentifier("2.25.64835558526198205057169089973453751425")
"""The private extension with the pod's uid, 2.25.<POD_UID_UUID>: a DER UTF8String, not critical."""

X509_FAULTS = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
"""All that reading an attacker's certificate or request may raise; not all of it is a ValueError."""

_POD_UID = re.compile(r"[A-Za-z0-9._-]{1,127}", re.ASCII)
_UTF8_STRING = 0x0C
_BOTH_ENDS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


class LeafError(ValueError):
    """A certificate that is no leaf of a workload; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a leaf says; `pod_uid` is to be honoured from our own issuers only."""

    identity: SpiffeId
    pod_uid: str | None
    not_before: datetime
    not_after: datetime
    sha256: str


def read_leaf(der: bytes) -> Leaf:
    """Read a leaf and check what X509-SVID asks of one; raises LeafError."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        _check_usage(extensions)
        return Leaf(
            identity=_identity(extensions),
            pod_uid=_pod_uid(extensions),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            sha256=hashlib.sha256(der).hexdigest(),
        )
    except LeafError:
        raise
    except SpiffeIdError as error:
        raise LeafError(f"its URI SAN: {error}") from error
    except X509_FAULTS as error:
        raise LeafError(str(error)) from error


def is_pod_uid(text: str) -> bool:
    """Whether a certificate can carry this as a pod's uid."""
    return _POD_UID.fullmatch(text) is not None


def pod_uid_extension(uid: str) -> x509.UnrecognizedExtension:
    """Make the extension's value as the X.509 builder takes it; raises ValueError where not `is_pod_uid`."""
    if not is_pod_uid(uid):
        raise ValueError(f"pod uid {uid[:200]!r}: expected 1 to 127 of A-Z a-z 0-9 . _ -")
    text = uid.encode("ascii")
    return x509.UnrecognizedExtension(POD_UID_OID, bytes([_UTF8_STRING, len(text)]) + text)


def _identity(extensions: x509.Extensions) -> SpiffeId:
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise LeafError(f"it has {len(uris)} URI SANs, expected exactly one")
    return SpiffeId.parse(uris[0])


def _check_usage(extensions: x509.Extensions) -> None:
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise LeafError("it is a CA certificate")
            case x509.ExtendedKeyUsage() as purposes if not set(purposes) >= _BOTH_ENDS:
                raise LeafError("its extended key usage lacks serverAuth or clientAuth")
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    if usage.key_cert_sign or usage.crl_sign or not usage.digital_signature:
        raise LeafError("its key usage isn't that of a leaf (digitalSignature, no signing of certificates)")


def _pod_uid(extensions: x509.Extensions) -> str | None:
    for extension in extensions:
        if extension.oid != POD_UID_OID:
            continue
        value: bytes = extension.value.public_bytes()
        text = value[2:].decode("ascii", "replace")
        if len(value) < 2 or value[0] != _UTF8_STRING or value[1] != len(value) - 2 or not is_pod_uid(text):
            raise LeafError("its pod uid extension can't be read")
        return text
    return None
