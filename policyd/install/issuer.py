"""The certificates that an install begins with: a root, and the issuer that it signs.

The root's key is handed to whoever installs, and never goes into a cluster: who takes the cluster can issue
until the issuer is replaced, and not for ever.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity.guarded import MaterialError
from identity.material import load_material
from identity.profile import BACKDATE, intermediate_builder, root_builder
from identity.spiffe_id import TrustDomain
from policyd.errors import SourceError
from servicekit.leaf import X509_FAULTS

ROOT_LIFETIME = timedelta(days=3650)
ISSUER_LIFETIME = timedelta(days=365)
"""As Linkerd's: a year in which somebody has to learn to rotate."""
LEAST_LEFT = timedelta(hours=24)
"""An issuer that ends before the first certificate it would sign isn't worth installing."""


@dataclass(frozen=True, slots=True)
class IssuerMaterial:
    """What goes into the cluster, in PEM; only the roots where somebody else writes the issuer's Secret."""

    roots: str
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Made:
    """A new root and issuer."""

    material: IssuerMaterial
    root_key: str = field(repr=False)
    issuer_ends: datetime
    root_ends: datetime


def make_issuer(trust_domain: TrustDomain, now: datetime) -> Made:
    """Make a root and an issuer, P-256, both valid from five minutes ago."""
    start = now.replace(microsecond=0) - BACKDATE
    root_ends, issuer_ends = start + ROOT_LIFETIME, start + ISSUER_LIFETIME
    root_key, issuer_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    unsigned = root_builder(root_key.public_key(), trust_domain)
    root = _sign(unsigned.not_valid_before(start).not_valid_after(root_ends), root_key)
    unsigned = intermediate_builder(issuer_key.public_key(), trust_domain, root)
    issuer = _sign(unsigned.not_valid_before(start).not_valid_after(issuer_ends), root_key)
    material = IssuerMaterial(_pem(root), _pem(issuer), _key_pem(issuer_key))
    return Made(material, _key_pem(root_key), issuer_ends, root_ends)


def check_given(material: IssuerMaterial, trust_domain: TrustDomain, now: datetime) -> None:
    """Refuse what identity would refuse to start with: its own code looks. Raises SourceError."""
    try:
        if material.certificate is None or material.key is None:
            x509.load_pem_x509_certificates(material.roots.encode())
            return
        ends = _end_of(material, trust_domain, now)
    except MaterialError as error:
        raise SourceError(f"given {error}") from error
    except X509_FAULTS as error:
        raise SourceError(f"given root.crt: expected certificates in PEM: {error}") from error
    if ends - now < LEAST_LEFT:
        raise SourceError(f"given issuer.crt: ends in less than {LEAST_LEFT}; expected one that lives longer")


def _end_of(material: IssuerMaterial, trust_domain: TrustDomain, now: datetime) -> datetime:
    """Load material as identity does, from files; their folder's name is nobody's business."""
    given = {"root.crt": material.roots, "issuer.crt": material.certificate, "issuer.key": material.key}
    with tempfile.TemporaryDirectory(prefix="policyd-issuer-") as name:
        folder = Path(name)
        for file, text in given.items():
            write_secret(folder / file, text or "")
        try:
            loaded = load_material(folder, trust_domain, now)
        except MaterialError as error:
            raise MaterialError(str(error).replace(f"{folder}/", "")) from error
    return loaded.signer.certificate.not_valid_after_utc


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, and that wasn't there. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
