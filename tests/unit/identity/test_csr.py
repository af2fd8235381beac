from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID

from identity.csr import accept_csr
from identity.refusal import Code, Refused
from identity.spiffe_id import SpiffeId
from tests.unit.identity import hostile_csr as hostile

WEB = SpiffeId.parse("spiffe://cluster.local/ns/emojivoto/sa/web")
KEY = ec.generate_private_key(ec.SECP256R1())
POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
Uri, Dns = x509.UniformResourceIdentifier, x509.DNSName


def test_a_request_without_names_gives_its_key() -> None:
    assert accept_csr(hostile.request(KEY), WEB) == KEY.public_key()


def test_a_request_may_name_exactly_what_the_token_says() -> None:
    assert accept_csr(hostile.with_names(KEY, Uri(str(WEB))), WEB) == KEY.public_key()


def add(extension: x509.ExtensionType) -> Callable[[hostile.Builder], hostile.Builder]:
    return lambda builder: builder.add_extension(extension, critical=True)


ASKS = {
    "another service account": hostile.with_names(KEY, Uri("spiffe://cluster.local/ns/emojivoto/sa/admin")),
    "another trust domain": hostile.with_names(KEY, Uri("spiffe://other/ns/emojivoto/sa/web")),
    "a second uri": hostile.with_names(KEY, Uri(str(WEB)), Uri("spiffe://cluster.local/ns/a/sa/b")),
    "its uri twice": hostile.with_names(KEY, Uri(str(WEB)), Uri(str(WEB))),
    "dns": hostile.with_names(KEY, Dns("web.emojivoto.sa.cluster.local")),
    "uri and dns": hostile.with_names(KEY, Uri(str(WEB)), Dns("kubernetes.default")),
    "ip": hostile.with_names(KEY, x509.IPAddress(ipaddress.ip_address("10.0.0.1"))),
    "email": hostile.with_names(KEY, x509.RFC822Name("root@example.com")),
    "common name": hostile.request(KEY, subject="web.emojivoto"),
    "common name that is the identity": hostile.request(KEY, subject=str(WEB)),
    "ca": hostile.request(KEY, add(x509.BasicConstraints(ca=True, path_length=None))),
    "no ca": hostile.request(KEY, add(x509.BasicConstraints(ca=False, path_length=None))),
    "eku": hostile.request(KEY, add(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]))),
    "unknown extension": hostile.request(
        KEY, add(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"))
    ),
    "challenge password": hostile.request(
        KEY, lambda builder: builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"secret")
    ),
}


@pytest.mark.parametrize("what", ASKS)
def test_id_01_a_request_for_anything_else_is_refused(what: str) -> None:
    with pytest.raises(Refused) as refused:
        accept_csr(ASKS[what], WEB)
    assert refused.value.code is Code.NAME_REFUSED


def flipped() -> bytes:
    good = bytearray(hostile.request(KEY))
    good[-1] ^= 1
    return bytes(good)


def by_another_key() -> bytes:
    return hostile.with_key(hostile.ec_key(POINT), ec.generate_private_key(ec.SECP256R1()))


def compressed() -> bytes:
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return hostile.with_key(hostile.ec_key(point), KEY)


def other_hash() -> bytes:
    return hostile.Builder().subject_name(x509.Name([])).sign(KEY, SHA384()).public_bytes(Encoding.DER)


def ed25519_request() -> bytes:
    builder = hostile.Builder().subject_name(x509.Name([]))
    return builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.DER)


P192 = bytes.fromhex("06082a8648ce3d030101")
P384_KEY = ec.generate_private_key(ec.SECP384R1())
JUNK = {
    "empty": b"",
    "text": b"-----BEGIN CERTIFICATE REQUEST-----",
    "one mebibyte": b"\x30" * (1 << 20),
    "over 4 KiB": hostile.with_names(KEY, *[Dns(f"{'a' * 60}{n}") for n in range(80)]),
    "trailing bytes": hostile.request(KEY) + b"\0",
    "bad self-signature": flipped(),
    "signed by another key": by_another_key(),
    "signature nonsense": hostile.with_key(hostile.ec_key(POINT)),
    "sha-384": other_hash(),
    "rsa-512": hostile.with_key(hostile.rsa_key(512)),
    "rsa-2048": hostile.with_key(hostile.rsa_key(2048)),
    "rsa-16384": hostile.with_key(hostile.rsa_key(16384)),
    "p-192": hostile.with_key(hostile.ec_key(b"\x04" + bytes(48), P192)),
    "p-384": hostile.request(P384_KEY),
    "ed25519": ed25519_request(),
    "point not on the curve": hostile.with_key(hostile.ec_key(b"\x04" + b"\1" * 64), KEY),
    "point at infinity": hostile.with_key(hostile.ec_key(b"\0"), KEY),
    "compressed point": compressed(),
    "explicit parameters": hostile.with_key(
        hostile.ec_key(POINT, hostile.element(0x30, hostile.integer(1) + hostile.element(0x30, b""))), KEY
    ),
    "long form of a length": hostile.request(KEY).replace(b"\x30\x59\x30\x13", b"\x30\x81\x59\x30\x13"),
}


@pytest.mark.parametrize("what", JUNK)
def test_id_02_a_bad_request_is_refused_and_cheap(what: str) -> None:
    begin = time.process_time()
    with pytest.raises(Refused) as refused:
        accept_csr(JUNK[what], WEB)
    assert refused.value.code is Code.CSR_INVALID
    # 20 ms is asked for; the bound here is for machines under load. A verified RSA-16384 would be far above.
    assert time.process_time() - begin < 0.1


def test_id_02_every_truncation_and_every_flipped_byte_is_refused() -> None:
    good = hostile.request(KEY)
    for end in range(len(good)):
        with pytest.raises(Refused):
            accept_csr(good[:end], WEB)
    for place in range(len(good)):
        bad = good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :]
        with pytest.raises(Refused):
            accept_csr(bad, WEB)
