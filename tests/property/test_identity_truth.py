"""P-9: what is issued says what the token says, whatever a request asks for; else nothing is issued."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.audit import Journal
from identity.authority import Authority
from identity.issuance import Asked, Checks, Issuance
from identity.limits import Limits, Rate
from identity.material import create_root
from identity.pods import Unchecked
from identity.refusal import Refused
from identity.spiffe_id import SpiffeId, TrustDomain
from identity.tokens import JwksTokenVerifier
from policyd.up.tokens import Holder, TokenIssuer

TRUST_DOMAIN = TrustDomain("cluster.local")
KEYS = [ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP256R1(), ec.SECP384R1())]
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
ACCOUNT = st.lists(LABEL, min_size=1, max_size=3).map(".".join)


@dataclass(frozen=True)
class Ask:
    """A request: whose names, which key, and how its bytes were damaged."""

    names: list[x509.GeneralName] | None
    subject: str
    is_ca: bool
    key: ec.EllipticCurvePrivateKey
    strong: bool
    flip: tuple[int, int] | None
    tail: bytes


def names(own: str) -> st.SearchStrategy[x509.GeneralName]:
    foreign = st.tuples(st.sampled_from(["cluster.local", "other"]), LABEL, ACCOUNT).map(
        lambda parts: f"spiffe://{parts[0]}/ns/{parts[1]}/sa/{parts[2]}"
    )
    spelled = st.sampled_from(
        [own, own + "/", own.upper(), own.replace("/ns/", "//ns/"), own + "%00", own + "?"]
    )
    return st.one_of(
        (foreign | spelled | st.just(own)).map(x509.UniformResourceIdentifier),
        ACCOUNT.map(x509.DNSName),
        st.integers(0, 2**32 - 1).map(lambda number: x509.IPAddress(IPv4Address(number))),
        st.just(x509.RFC822Name("root@example.com")),
    )


def asks(own: str) -> st.SearchStrategy[Ask]:
    return st.builds(
        Ask,
        names=st.none()
        | st.just([x509.UniformResourceIdentifier(own)])
        | st.lists(names(own), min_size=1, max_size=3),
        subject=st.sampled_from(["", "", "", own, "admin"]),
        is_ca=st.sampled_from([False, False, False, True]),
        key=st.sampled_from([*KEYS, KEYS[0]]),
        strong=st.sampled_from([True, True, True, False]),
        flip=st.none() | st.none() | st.tuples(st.integers(0, 2000), st.integers(1, 255)),
        tail=st.sampled_from([b"", b"", b"", b"\0", b"\x30\0"]),
    )


def encode(ask: Ask) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ask.subject[:64])] if ask.subject else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if ask.names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(ask.names), critical=False)
    if ask.is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    der = bytearray(builder.sign(ask.key, SHA256() if ask.strong else SHA384()).public_bytes(Encoding.DER))
    if ask.flip is not None:
        der[ask.flip[0] % len(der)] ^= ask.flip[1]
    return bytes(der) + ask.tail


@dataclass
class Bench:
    issuance: Issuance
    tokens: TokenIssuer
    outcomes: Counter[str]


@pytest.fixture(scope="module")
def bench() -> Bench:
    folder = Path(tempfile.mkdtemp())
    create_root(folder / "root", TRUST_DOMAIN)
    tokens = TokenIssuer()
    (folder / "jwks.json").write_text(tokens.jwks())
    authority = Authority(folder / "root", TRUST_DOMAIN, timedelta(hours=24), datetime.now(UTC))
    verifier = JwksTokenVerifier(folder / "jwks.json", tokens.issuer, "identity")
    checks = Checks(verifier, Unchecked(), Limits(Rate(1e9, 1e9), Rate(1e9, 1e9)))
    return Bench(Issuance(authority, Journal(folder / "journal"), checks), tokens, Counter())


@pytest.mark.promise("P-9")
@given(data=st.data(), namespace=LABEL, account=ACCOUNT, pod_uid=st.uuids().map(str))
@settings(max_examples=int(os.environ.get("POLICYD_CSRS", "600")), deadline=None)
def test_a_certificate_is_the_tokens_or_is_not_issued(
    bench: Bench, data: st.DataObject, namespace: str, account: str, pod_uid: str
) -> None:
    own = SpiffeId.of_service_account(TRUST_DOMAIN, namespace, account)
    ask = data.draw(asks(str(own)))
    token = bench.tokens.mint(Holder(namespace, account, "sa", "pod", pod_uid), "identity")
    harmless = ask.names is None or ask.names == [x509.UniformResourceIdentifier(str(own))]
    clean = harmless and not (ask.subject or ask.is_ca or ask.flip or ask.tail) and ask.strong
    honest = clean and ask.key is not KEYS[2]
    try:
        issued = asyncio.run(bench.issuance.certify(Asked(encode(ask), token, None, "")))
        outcome = "issued"
    except Refused as refused:
        issued, outcome = None, refused.code
    bench.outcomes[outcome] += 1
    assert honest == (issued is not None), outcome
    if issued is None:
        return
    leaf = x509.load_der_x509_certificate(issued.chain[0])
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == [str(own)]
    assert san.get_values_for_type(x509.DNSName) == ([own.dns_name] if own.dns_name else [])
    assert len(list(san)) == 1 + (own.dns_name is not None)
    assert leaf.public_key() == ask.key.public_key()
    assert leaf.subject.rdns == []


@pytest.mark.promise("P-9")
def test_the_requests_tried_were_of_every_kind(bench: Bench) -> None:
    """Without this the property could hold for lack of trying."""
    assert {"issued", "NAME_REFUSED", "CSR_INVALID"} <= set(bench.outcomes)
