"""Whom the API believes: everything that isn't the front proxy, with its headers, is nobody."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from policyd.audit_api.front_proxy import FrontProxy, read_front_proxy
from policyd.audit_api.refusal import Refusal

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Authority:
    """Issues certificates of any name and time."""

    def __init__(self, begin: datetime = NOW - DAY, end: datetime = NOW + DAY) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name("front")
        builder = certificate(self._name, self._name, self._key.public_key(), begin, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def issue(
        self,
        subject: str = "front-proxy",
        begin: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = certificate(name(subject), self._name, key.public_key(), begin, end)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)


AUTHORITY = Authority()
HEADERS = ((b"x-remote-user", b"alice"), (b"x-remote-group", b"devs"), (b"x-remote-group", b"all"))


def config(*authorities: Authority, **more: str) -> dict[str, str]:
    return {
        "requestheader-client-ca-file": "".join(each.pem for each in authorities or (AUTHORITY,)),
        "requestheader-allowed-names": '["front-proxy"]',
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        **{key.replace("_", "-"): value for key, value in more.items()},
    }


@pytest.fixture
def front() -> FrontProxy:
    return read_front_proxy(config())


def test_the_front_proxy_says_for_whom_it_asks(front: FrontProxy) -> None:
    more = (
        (b"x-remote-uid", b"7"),
        (b"x-remote-extra-example.org%2fteam", b"a"),
        (b"x-remote-extra-example.org%2fteam", "ü".encode()),
    )
    found = front.caller(AUTHORITY.issue(), (*HEADERS, *more))
    assert (found.user, found.uid, found.groups) == ("alice", "7", ("devs", "all"))
    assert found.extra == (("example.org/team", ("a", "ü")),)


@pytest.mark.parametrize(
    "shown",
    [
        None,
        b"",
        b"no certificate",
        Authority().issue(),
        AUTHORITY.issue("somebody"),
        AUTHORITY.issue(end=NOW - timedelta(minutes=1)),
        AUTHORITY.issue(begin=NOW + timedelta(hours=1)),
        AUTHORITY.issue(usage=ExtendedKeyUsageOID.SERVER_AUTH),
    ],
    ids=["none", "empty", "junk", "other authority", "other name", "ended", "not begun", "a server's"],
)
def test_nobody_else_is_believed(front: FrontProxy, shown: bytes | None) -> None:
    with pytest.raises(Refusal) as caught:
        front.caller(shown, HEADERS)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"x-remote-user", b""),),
        ((b"x-remote-user", b"alice"), (b"x-remote-user", b"bob")),
        ((b"x-remote-user", b"\xff"),),
        (*HEADERS, *((b"x-remote-group", b"g"),) * 1000),
    ],
    ids=["none", "empty", "two users", "no text", "a thousand groups"],
)
def test_headers_that_name_nobody_are_refused(
    front: FrontProxy, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    with pytest.raises(Refusal):
        front.caller(AUTHORITY.issue(), headers)


def test_an_authority_that_was_replaced_counts_no_more() -> None:
    other, shown = Authority(), AUTHORITY.issue()
    both, later = read_front_proxy(config(AUTHORITY, other)), read_front_proxy(config(other))
    assert both.caller(shown, HEADERS).user == "alice"
    with pytest.raises(Refusal):
        later.caller(shown, HEADERS)
    assert later.caller(other.issue(), HEADERS).user == "alice"


def test_an_authority_that_has_ended_vouches_for_nobody() -> None:
    ended = Authority(NOW - 2 * DAY, NOW - DAY)
    with pytest.raises(Refusal):
        read_front_proxy(config(ended)).caller(ended.issue(), HEADERS)


def test_without_names_any_certificate_of_the_authority_counts() -> None:
    front = read_front_proxy(config(requestheader_allowed_names="[]"))
    assert front.caller(AUTHORITY.issue("anybody"), HEADERS).user == "alice"


@pytest.mark.parametrize(
    "data",
    [
        {},
        config(requestheader_client_ca_file=""),
        config(requestheader_client_ca_file="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        config(requestheader_username_headers="[]"),
        config(requestheader_allowed_names="front-proxy"),
        config(requestheader_allowed_names=json.dumps({"a": 1})),
        config(requestheader_group_headers="[7]"),
    ],
)
def test_what_cannot_be_read_has_nobody_believed(data: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="requestheader"):
        read_front_proxy(data)
