"""The certificates of a test's API server: its own, and those by which it knows others."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=2)
_BACKDATE = datetime.timedelta(hours=1)
_SERVING_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class Authority:
    """A CA in a folder: `NAME.crt`, `NAME.key`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = folder / f"{name}.crt"
        self.key = _write_key(folder / f"{name}.key", self._key)
        _write(self.certificate, builder.sign(self._key, hashes.SHA256()))

    def issue(
        self,
        name: str,
        *,
        groups: tuple[str, ...] = (),
        serving: tuple[str, ...] = (),
        ended: bool = False,
    ) -> tuple[Path, Path]:
        """Issue to a user of these groups, or to a server at these addresses; returns certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if serving else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(subject, self._name, key.public_key(), ended=ended)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if serving:
            names = [x509.DNSName(found) for found in _SERVING_NAMES]
            addresses = [x509.IPAddress(ipaddress.ip_address(found)) for found in serving]
            builder = builder.add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        file = name.replace(":", "-")
        path = self._folder / f"{file}.crt"
        _write(path, builder.sign(self._key, hashes.SHA256()))
        return path, _write_key(self._folder / f"{file}.key", key)


def signing_key(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key that signs ServiceAccount tokens; returns private and public part."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = folder / f"{name}.pub"
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(encoding, form))
    return _write_key(folder / f"{name}.key", key), public


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, ended: bool = False
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now - _BACKDATE / 2 if ended else now + _LIFETIME)
    )


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    path.chmod(0o600)
    return path
