from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from identity.authority import Authority
from identity.guarded import MaterialError
from identity.material import Material, create_root, load_material
from identity.profile import root_builder
from identity.refusal import Code, Refused
from identity.spiffe_id import TrustDomain
from tests.unit.identity.conftest import TRUST_DOMAIN, WEB

NOW = datetime.now(UTC)
Key = ec.EllipticCurvePrivateKey


def load(folder: Path, now: datetime = NOW) -> Material:
    return load_material(folder, TRUST_DOMAIN, now)


def put_key(path: Path, key: Key | rsa.RSAPrivateKey) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


def make_root(
    key: Key, trust_domain: TrustDomain = TRUST_DOMAIN, left: timedelta = timedelta(days=30)
) -> bytes:
    builder = root_builder(key.public_key(), trust_domain).not_valid_before(NOW - timedelta(days=1))
    return builder.not_valid_after(NOW + left).sign(key, SHA256()).public_bytes(Encoding.PEM)


def make_issuer(folder: Path, left: timedelta = timedelta(days=7), *, is_ca: bool = True) -> None:
    """Put an issuer below the folder's root beside it, and take the root's key away, as a user would."""
    root = x509.load_pem_x509_certificate((folder / "root.crt").read_bytes())
    signer = load(folder).signer.key
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "our issuer")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(minutes=1))
        .not_valid_after(NOW + left)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(usage, critical=True)
        .sign(signer, SHA256())
    )
    (folder / "issuer.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    put_key(folder / "issuer.key", key)
    (folder / "root.key").unlink()


def test_create_root_is_private_and_never_overwrites(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    create_root(folder, TRUST_DOMAIN)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "root.key").stat().st_mode & 0o777 == 0o600
    assert load(folder).signer_is_root
    before = (folder / "root.key").read_bytes()
    with pytest.raises(MaterialError, match="no root was made"):
        create_root(folder, TRUST_DOMAIN)
    assert (folder / "root.key").read_bytes() == before


def test_a_users_root_and_issuer_are_used_as_they_are(root: Path) -> None:
    make_issuer(root)
    material = load(root)
    assert not material.signer_is_root
    authority = Authority(root, TRUST_DOMAIN, timedelta(hours=24), NOW)
    chain = authority.issue(WEB, "uid", ec.generate_private_key(ec.SECP256R1()).public_key(), NOW).chain
    assert chain[1] == material.signer.certificate.public_bytes(Encoding.DER)


def test_text_around_certificates_does_no_harm(root: Path) -> None:
    path = root / "root.crt"
    path.write_bytes(b"# our root\n\n" + path.read_bytes() + b"\n\n")
    assert load(root).roots


def replace_by_link(path: Path) -> None:
    target = path.with_suffix(".real")
    path.rename(target)
    path.symlink_to(target)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


PERMISSIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "key 0644": (lambda f: (f / "root.key").chmod(0o644), "chmod 600"),
    "key 0640": (lambda f: (f / "root.key").chmod(0o640), "chmod 600"),
    "key a link": (lambda f: replace_by_link(f / "root.key"), "symbolic link"),
    "root a link": (lambda f: replace_by_link(f / "root.crt"), "symbolic link"),
    "key a pipe": (lambda f: make_fifo(f / "root.key"), "plain file"),
    "root writable by all": (lambda f: (f / "root.crt").chmod(0o666), "chmod go-w"),
    "folder writable by all": (lambda f: f.chmod(0o777), "chmod go-w"),
}


@pytest.mark.parametrize("what", PERMISSIONS)
def test_id_11_material_that_others_could_read_or_change_is_refused(what: str, root: Path) -> None:
    spoil, expected = PERMISSIONS[what]
    spoil(root)
    with pytest.raises(MaterialError, match=expected):
        load(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_id_11_another_users_key_is_refused(root: Path) -> None:
    os.chown(root / "root.key", 12345, 12345)
    with pytest.raises(MaterialError, match="owned by uid 12345"):
        load(root)


def test_id_11_a_folder_that_is_a_link_is_refused(root: Path) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    with pytest.raises(MaterialError, match="not a link"):
        load(link)


OTHER = ec.generate_private_key(ec.SECP256R1())
CONTENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda f: f.rename(f.with_name("gone")), "give identity a root or issuer"),
    "no root": (lambda f: (f / "root.crt").unlink(), "No such file"),
    "no key": (lambda f: (f / "root.key").unlink(), "No such file"),
    "key mismatch": (lambda f: put_key(f / "root.key", OTHER), "expected the key of a certificate"),
    "half-written root": (
        lambda f: (f / "root.crt").write_bytes((f / "root.crt").read_bytes()[:200]),
        "certificates in PEM",
    ),
    "half-written key": (
        lambda f: (f / "root.key").write_bytes((f / "root.key").read_bytes()[:100]),
        "private key in PEM",
    ),
    "empty root": (lambda f: (f / "root.crt").write_bytes(b""), "certificates in PEM"),
    "rsa key": (lambda f: put_key(f / "root.key", rsa.generate_private_key(65537, 2048)), "P-256 or P-384"),
    "huge": (lambda f: (f / "root.crt").write_bytes(b"x" * (1 << 20)), "at most"),
    "another trust domain": (
        lambda f: (f / "root.crt").write_bytes(make_root(OTHER, TrustDomain("other"))),
        "expected spiffe://cluster.local",
    ),
    "expired": (
        lambda f: (f / "root.crt").write_bytes(make_root(OTHER, left=timedelta(seconds=-1))),
        "expired",
    ),
    "issuer without key": (lambda f: (make_issuer(f), (f / "issuer.key").unlink()), "No such file"),
    "issuer of another key": (lambda f: (make_issuer(f), put_key(f / "issuer.key", OTHER)), "issuer.key"),
    "issuer of another root": (
        lambda f: (make_issuer(f), (f / "root.crt").write_bytes(make_root(OTHER))),
        "issued by a root",
    ),
    "issuer that is a leaf": (lambda f: make_issuer(f, is_ca=False), "keyCertSign"),
    "expired issuer": (lambda f: make_issuer(f, timedelta(seconds=-1)), "expired"),
}


@pytest.mark.parametrize("what", CONTENT)
def test_id_07_bad_material_is_refused_at_start_and_the_former_kept_later(what: str, root: Path) -> None:
    authority = Authority(root, TRUST_DOMAIN, timedelta(hours=24), NOW)
    before = authority.bundles
    spoil, expected = CONTENT[what]
    spoil(root)
    with pytest.raises(MaterialError, match=expected):
        load(root)
    with pytest.raises(MaterialError):
        authority.reload(NOW)
    assert authority.bundles is before
    assert authority.issue(WEB, "uid", OTHER.public_key(), NOW).chain


def test_id_07_a_certificate_never_outlives_its_issuer(root: Path) -> None:
    make_issuer(root, timedelta(hours=1))
    authority = Authority(root, TRUST_DOMAIN, timedelta(hours=24), NOW)
    plan = authority.issue(WEB, "uid", OTHER.public_key(), NOW).plan
    assert plan.not_after == load(root).signer.certificate.not_valid_after_utc
    assert plan.not_after <= NOW + timedelta(hours=1)


def test_id_07_an_issuer_at_its_end_issues_nothing(root: Path) -> None:
    make_issuer(root, timedelta(hours=1))
    authority = Authority(root, TRUST_DOMAIN, timedelta(hours=24), NOW)
    for at in (NOW + timedelta(minutes=59, seconds=30), NOW + timedelta(hours=2)):
        with pytest.raises(Refused) as refused:
            authority.issue(WEB, "uid", OTHER.public_key(), at)
        assert refused.value.code is Code.NO_ISSUER


def test_id_07_a_new_root_is_taken_up_with_a_higher_sequence(root: Path) -> None:
    authority = Authority(root, TRUST_DOMAIN, timedelta(hours=24), NOW)
    before = authority.bundles
    assert not authority.reload(NOW)
    # Overlap first: both roots are trusted, the old one still signs.
    (root / "root.crt").write_bytes(make_root(OTHER) + (root / "root.crt").read_bytes())
    assert authority.reload(NOW)
    assert len(authority.bundles.of(TRUST_DOMAIN)) == 2
    assert authority.bundles.sequence > before.sequence
    put_key(root / "root.key", OTHER)
    assert authority.reload(NOW)
    issuer = x509.load_der_x509_certificate(authority.issue(WEB, "u", OTHER.public_key(), NOW).chain[1])
    issuer.verify_directly_issued_by(load(root).roots[0])


@pytest.mark.promise("P-18")
def test_p_18_a_root_that_goes_before_its_certificates_end_is_noticed(root: Path) -> None:
    authority = Authority(root, TRUST_DOMAIN, timedelta(hours=24), NOW)
    plan = authority.issue(WEB, "uid", OTHER.public_key(), NOW).plan
    old = (root / "root.crt").read_bytes()
    (root / "root.crt").write_bytes(make_root(OTHER) + old)
    put_key(root / "root.key", OTHER)
    assert authority.reload(NOW)
    assert authority.orphaned_until(NOW) is None
    (root / "root.crt").write_bytes(make_root(OTHER))
    assert authority.reload(NOW)
    assert authority.orphaned_until(NOW) == plan.not_after
    assert authority.orphaned_until(plan.not_after) is None


def test_the_intermediate_is_made_anew_at_half_its_life(root: Path) -> None:
    authority = Authority(root, TRUST_DOMAIN, timedelta(hours=24), NOW)
    first = authority.issue(WEB, "u", OTHER.public_key(), NOW).chain[1]
    assert not authority.keep_up(NOW + timedelta(days=3))
    assert authority.keep_up(NOW + timedelta(days=3, hours=13))
    second = authority.issue(WEB, "u", OTHER.public_key(), NOW + timedelta(days=4)).chain[1]
    assert first != second
