"""What certificates contain: docs/decisions/0004-certificates.md as X.509 builders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity.spiffe_id import SpiffeId, TrustDomain
from servicekit.leaf import pod_uid_extension

BACKDATE = timedelta(minutes=5)
"""How long before its issuance a certificate is valid, for clocks that are behind."""


@dataclass(frozen=True, slots=True)
class LeafPlan:
    """A leaf about to be signed. Times are UTC, whole seconds."""

    identity: SpiffeId
    pod_uid: str | None  # None: identity's own
    public_key: ec.EllipticCurvePublicKey
    serial: int
    not_before: datetime
    not_after: datetime


def new_serial() -> int:
    """159 random bits: serials never repeat, not across restarts or replicas either."""
    return x509.random_serial_number()


def leaf_builder(plan: LeafPlan, issuer: x509.Certificate) -> x509.CertificateBuilder:
    builder = (
        _builder(plan.public_key, plan.serial, issuer.subject)
        .subject_name(x509.Name([]))
        .not_valid_before(plan.not_before)
        .not_valid_after(plan.not_after)
        .add_extension(leaf_names(plan.identity), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(_BOTH_ENDS, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_authority_key(issuer), critical=False)
    )
    if plan.pod_uid is not None:
        builder = builder.add_extension(pod_uid_extension(plan.pod_uid), critical=False)
    return builder


def intermediate_builder(
    key: ec.EllipticCurvePublicKey, trust_domain: TrustDomain, root: x509.Certificate
) -> x509.CertificateBuilder:
    """Leave the validity to the caller."""
    serial = new_serial()
    return (
        _builder(key, serial, root.subject)
        # The serial makes the name unique, so that verifiers never confuse two generations.
        .subject_name(_ca_name(trust_domain, f"identity intermediate {serial & 0xFFFFFFFF:08x}"))
        .add_extension(_ca_names(trust_domain), critical=False)
        .add_extension(_key_usage(digital_signature=False), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_authority_key(root), critical=False)
    )


def root_builder(key: ec.EllipticCurvePublicKey, trust_domain: TrustDomain) -> x509.CertificateBuilder:
    """Leave the validity to the caller."""
    name = _ca_name(trust_domain, "identity root")
    return (
        _builder(key, new_serial(), name)
        .subject_name(name)
        .add_extension(_ca_names(trust_domain), critical=False)
        .add_extension(_key_usage(digital_signature=False), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    )


def leaf_names(identity: SpiffeId) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
    if identity.dns_name is not None:
        names.append(x509.DNSName(identity.dns_name))
    return x509.SubjectAlternativeName(names)


def _builder(key: ec.EllipticCurvePublicKey, serial: int, issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .serial_number(serial)
        .public_key(key)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Name the issuer's key as the issuer itself does; a user's root may have chosen another hash."""
    try:
        named = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 — checked when it was loaded
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def _ca_name(trust_domain: TrustDomain, what: str) -> x509.Name:
    # X.520 allows 64 characters of an organisation's name; the URI SAN carries the whole.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain.name[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, what),
        ]
    )


def _ca_names(trust_domain: TrustDomain) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(trust_domain.uri)])


def _key_usage(*, digital_signature: bool) -> x509.KeyUsage:
    """Make a leaf's usage, or else a CA's."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not digital_signature,
        crl_sign=not digital_signature,
        encipher_only=False,
        decipher_only=False,
    )


_BOTH_ENDS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
