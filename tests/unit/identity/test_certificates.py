"""What is issued, read by libraries that didn't write it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from identity import recheck as rechecking
from identity.authority import Authority, Issued
from identity.material import create_root
from identity.profile import LeafPlan, leaf_builder, root_builder
from identity.recheck import Expected, RecheckError, recheck
from identity.refusal import Refused
from identity.spiffe_id import SpiffeId, TrustDomain
from servicekit.leaf import POD_UID_OID, read_leaf
from tests.unit.identity.conftest import TRUST_DOMAIN, WEB

NOW = datetime.now(UTC).replace(microsecond=0)
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue(WEB, "pod-uid-1", KEY.public_key(), NOW)


def chain_of(issued: Issued) -> tuple[x509.Certificate, x509.Certificate]:
    leaf, intermediate = map(x509.load_der_x509_certificate, issued.chain)
    return leaf, intermediate


def test_the_chain_verifies_as_client_and_as_server(authority: Authority, issued: Issued) -> None:
    leaf, intermediate = chain_of(issued)
    store = Store([x509.load_der_x509_certificate(root) for root in authority.bundles.of(TRUST_DOMAIN)])
    builder = PolicyBuilder().store(store).time(NOW)
    client = builder.build_client_verifier().verify(leaf, [intermediate])
    assert [name.value for name in client.subjects or ()] == [str(WEB), WEB.dns_name]
    assert builder.build_server_verifier(x509.DNSName("web.emojivoto.sa.cluster.local")).verify(
        leaf, [intermediate]
    )
    for at in (NOW - timedelta(minutes=6), NOW + timedelta(hours=25)):
        with pytest.raises(VerificationError):
            PolicyBuilder().store(store).time(at).build_client_verifier().verify(leaf, [intermediate])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_verifies_the_chain(authority: Authority, issued: Issued, tmp_path: Path) -> None:
    root = x509.load_der_x509_certificate(authority.bundles.of(TRUST_DOMAIN)[0])
    for name, certificate in zip(("leaf", "chain", "anchor"), (*chain_of(issued), root), strict=True):
        (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "anchor", "-untrusted", "chain", "leaf"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_leaf_carries_what_the_record_says_and_nothing_else(issued: Issued) -> None:
    leaf, intermediate = chain_of(issued)
    assert leaf.subject.rdns == []
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == NOW + timedelta(hours=24)
    assert leaf.serial_number.bit_length() > 64
    critical = {extension.oid.dotted_string: extension.critical for extension in leaf.extensions}
    assert critical == {
        "2.5.29.17": True,
        "2.5.29.15": True,
        "2.5.29.19": True,
        "2.5.29.37": False,
        "2.5.29.14": False,
        "2.5.29.35": False,
        POD_UID_OID.dotted_string: False,
    }
    constraints = intermediate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    names = intermediate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cluster.local"]


def test_a_reader_of_leaves_gets_identity_and_pod_uid(issued: Issued) -> None:
    leaf = read_leaf(issued.chain[0])
    assert (leaf.identity, leaf.pod_uid) == (WEB, "pod-uid-1")


def test_no_dns_name_where_the_trust_domain_is_none(tmp_path: Path) -> None:
    trust_domain = TrustDomain("a_b")
    create_root(tmp_path / "root", trust_domain)
    authority = Authority(tmp_path / "root", trust_domain, timedelta(hours=1), NOW)
    identity = SpiffeId.of_service_account(trust_domain, "n", "s")
    leaf = x509.load_der_x509_certificate(authority.issue(identity, None, KEY.public_key(), NOW).chain[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [str(identity)]


def test_another_trust_domain_is_not_ours_to_certify(authority: Authority) -> None:
    with pytest.raises(Refused):
        authority.issue(SpiffeId.parse("spiffe://other/ns/a/sa/b"), None, KEY.public_key(), NOW)


def test_serials_never_repeat(authority: Authority) -> None:
    serials = {authority.issue(WEB, "u", KEY.public_key(), NOW).plan.serial for _ in range(300)}
    assert len(serials) == 300


SIGNER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def issuer() -> x509.Certificate:
    builder = root_builder(SIGNER.public_key(), TRUST_DOMAIN).not_valid_before(NOW - timedelta(days=1))
    return builder.not_valid_after(NOW + timedelta(days=1, hours=1)).sign(SIGNER, SHA256())


PLAN = LeafPlan(
    WEB, "pod-uid-1", KEY.public_key(), 1 << 100, NOW - timedelta(minutes=5), NOW + timedelta(hours=24)
)
URI = x509.UniformResourceIdentifier
BUGS = {
    "another identity": replace(
        PLAN, identity=SpiffeId.parse("spiffe://cluster.local/ns/emojivoto/sa/admin")
    ),
    "another pod": replace(PLAN, pod_uid="pod-uid-2"),
    "no pod": replace(PLAN, pod_uid=None),
    "another key": replace(PLAN, public_key=SIGNER.public_key()),
    "a short serial": replace(PLAN, serial=7),
    "a longer life": replace(PLAN, not_after=NOW + timedelta(hours=25)),
    "an earlier begin": replace(PLAN, not_before=NOW - timedelta(hours=5)),
}


@pytest.mark.parametrize("what", BUGS)
def test_a_certificate_that_is_not_the_one_meant_does_not_leave(what: str, issuer: x509.Certificate) -> None:
    expected = Expected.of(PLAN, issuer)
    recheck(sign(leaf_builder(PLAN, issuer)), expected)
    with pytest.raises(RecheckError):
        recheck(sign(leaf_builder(BUGS[what], issuer)), expected)


def sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey = SIGNER) -> bytes:
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def test_an_extension_more_or_another_signer_does_not_leave(issuer: x509.Certificate) -> None:
    expected = Expected.of(PLAN, issuer)
    more = leaf_builder(PLAN, issuer).add_extension(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\0"), critical=False
    )
    for leaf in (sign(more), sign(leaf_builder(PLAN, issuer), KEY)):
        with pytest.raises(RecheckError):
            recheck(leaf, expected)


def test_every_flipped_byte_is_seen(issuer: x509.Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the signature's check off, the list alone notices: only key ids and signature are free."""
    monkeypatch.setattr(rechecking, "_check_signature", lambda *_: None)
    leaf = sign(leaf_builder(PLAN, issuer))
    expected = Expected.of(PLAN, issuer)
    unnoticed = []
    for place in range(len(leaf)):
        try:
            recheck(leaf[:place] + bytes([leaf[place] ^ 0x40]) + leaf[place + 1 :], expected)
        except RecheckError:
            continue
        unnoticed.append(place)
    serial, key_ids, signature = 20, 2 * 24, 74
    assert len(unnoticed) <= serial + key_ids + signature
