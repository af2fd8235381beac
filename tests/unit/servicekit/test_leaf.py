from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from servicekit.leaf import POD_UID_OID, POD_UID_UUID, LeafError, pod_uid_extension, read_leaf

KEY = ec.generate_private_key(ec.SECP256R1())
WEB = "spiffe://cluster.local/ns/emojivoto/sa/web"
BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
Uri = x509.UniformResourceIdentifier


def usage(**changes: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{**dict.fromkeys(names, False), "digital_signature": True, **changes})


def leaf(*extensions: x509.ExtensionType) -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)


def san(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def uid(value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(POD_UID_OID, value)


def test_the_oid_is_the_uuids() -> None:
    assert POD_UID_OID.dotted_string == f"2.25.{int(POD_UID_UUID.replace('-', ''), 16)}"


def test_a_leaf_is_read() -> None:
    found = read_leaf(leaf(san(Uri(WEB)), usage(), x509.ExtendedKeyUsage(BOTH), pod_uid_extension("uid-1")))
    assert (str(found.identity), found.pod_uid) == (WEB, "uid-1")
    assert read_leaf(leaf(san(Uri(WEB)), usage())).pod_uid is None


BAD = {
    "two uris (TLS-03)": leaf(san(Uri(WEB), Uri(WEB)), usage()),
    "no uri": leaf(san(x509.DNSName("web")), usage()),
    "no san": leaf(usage()),
    "other scheme": leaf(san(Uri("https://a/b")), usage()),
    "root path only": leaf(san(Uri("spiffe://cluster.local")), usage()),
    "upper case (TLS-04)": leaf(san(Uri("spiffe://Cluster.local/a")), usage()),
    "a ca (TLS-05)": leaf(san(Uri(WEB)), usage(), x509.BasicConstraints(ca=True, path_length=None)),
    "signs certificates": leaf(san(Uri(WEB)), usage(key_cert_sign=True)),
    "signs lists": leaf(san(Uri(WEB)), usage(crl_sign=True)),
    "no signature": leaf(san(Uri(WEB)), usage(digital_signature=False)),
    "no key usage": leaf(san(Uri(WEB))),
    "only a server": leaf(san(Uri(WEB)), usage(), x509.ExtendedKeyUsage(BOTH[:1])),
    "pod uid no text": leaf(san(Uri(WEB)), usage(), uid(b"uid-1")),
    "pod uid empty": leaf(san(Uri(WEB)), usage(), uid(b"\x0c\0")),
    "pod uid with a tail": leaf(san(Uri(WEB)), usage(), uid(b"\x0c\1ab")),
    "pod uid with a slash": leaf(san(Uri(WEB)), usage(), uid(b"\x0c\3a/b")),
    "bytes behind": leaf(san(Uri(WEB)), usage()) + b"\0",
    "junk": b"junk",
    "empty": b"",
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_leaf_is_refused(what: str) -> None:
    with pytest.raises(LeafError):
        read_leaf(BAD[what])


@pytest.mark.parametrize("text", ["", "a" * 128, "a/b", "ä", "a b"])
def test_only_plain_uids_are_written(text: str) -> None:
    with pytest.raises(ValueError, match="pod uid"):
        pod_uid_extension(text)
