from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from identity.jwks import JwksError, read_jwks
from identity.refusal import Code, Refused
from identity.tokens import Caller, JwksTokenVerifier

KEY = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ISSUER, AUDIENCE = "https://issuer.test", "identity.test"
Change = Callable[[dict[str, Any]], object]


def jwk(key: Any, key_id: str, algorithm: str) -> dict[str, Any]:
    kind = ECAlgorithm if algorithm.startswith("ES") else RSAAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, "alg": algorithm}


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(KEY, "ec", "ES256"), jwk(RSA, "rsa", "RS256")]}))
    return path


@pytest.fixture
def verifier(jwks: Path) -> JwksTokenVerifier:
    return JwksTokenVerifier(jwks, ISSUER, AUDIENCE)


def claims() -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "sub": "system:serviceaccount:emojivoto:web",
        "aud": [AUDIENCE],
        "exp": now + 600,
        "nbf": now,
        "iat": now,
        "jti": "id-1",
        "kubernetes.io": {
            "namespace": "emojivoto",
            "serviceaccount": {"name": "web", "uid": "sa-uid"},
            "pod": {"name": "web-0", "uid": "pod-uid"},
            "node": {"name": "n", "uid": "u"},
        },
    }


def signed(change: Change = lambda c: None) -> str:
    body = claims()
    change(body)
    return jwt.encode(body, KEY, algorithm="ES256", headers={"kid": "ec"})


def by_hand(header: dict[str, Any] | str, body: str, sign: Callable[[bytes], bytes]) -> str:
    text = header if isinstance(header, str) else json.dumps(header)
    signing = b".".join(part(piece.encode()) for piece in (text, body))
    return (signing + b"." + part(sign(signing))).decode()


def part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def es256(signing: bytes) -> bytes:
    return ECAlgorithm(ECAlgorithm.SHA256).sign(signing, KEY)


async def verify(verifier: JwksTokenVerifier, token: str) -> Caller:
    return await verifier.verify(token, renewal=False)


async def test_a_bound_token_says_who_calls(verifier: JwksTokenVerifier) -> None:
    assert await verify(verifier, signed()) == Caller(
        "emojivoto", "web", "sa-uid", "web-0", "pod-uid", "id-1"
    )


async def test_rs256_verifies_too(verifier: JwksTokenVerifier) -> None:
    token = jwt.encode(claims(), RSA, algorithm="RS256", headers={"kid": "rsa"})
    assert (await verify(verifier, token)).service_account == "web"


def hs256_with_the_public_key() -> str:
    secret = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "kid": "rsa"}
    return by_hand(header, json.dumps(claims()), lambda data: hmac.digest(secret, data, hashlib.sha256))


def duplicate(key: str, value: str) -> str:
    body = json.dumps(claims())
    return by_hand({"alg": "ES256", "kid": "ec"}, f'{{"{key}": {value}, {body[1:]}', es256)


def flipped_signature() -> str:
    head, _, signature = signed().rpartition(".")
    return f"{head}.{signature[:10]}{'A' if signature[10] != 'A' else 'B'}{signature[11:]}"


def other_body() -> str:
    head, _, signature = signed().split(".")
    body = claims()
    body["kubernetes.io"]["serviceaccount"]["name"] = "admin"
    return f"{head}.{part(json.dumps(body).encode()).decode()}.{signature}"


def drop(*path: str) -> Change:
    def change(body: dict[str, Any]) -> None:
        for step in path[:-1]:
            body = body[step]
        del body[path[-1]]

    return change


K8S = "kubernetes.io"
BAD = {
    "wrong audience": signed(lambda c: c.update(aud=["https://kubernetes.default.svc"])),
    "audience as part of a text": signed(lambda c: c.update(aud=f"{AUDIENCE}.evil")),
    "no audience": signed(drop("aud")),
    "not yet valid": signed(lambda c: c.update(nbf=int(time.time()) + 7200)),
    "issued in the future": signed(lambda c: c.update(iat=int(time.time()) + 7200)),
    "no expiry": signed(drop("exp")),
    "expiry as text": signed(lambda c: c.update(exp="9999999999")),
    "expiry true": signed(lambda c: c.update(exp=True)),
    "another issuer": signed(lambda c: c.update(iss="https://other.test")),
    "legacy, unbound": signed(drop(K8S)),
    "not bound to a pod": signed(drop(K8S, "pod")),
    "no pod uid": signed(drop(K8S, "pod", "uid")),
    "empty pod uid": signed(lambda c: c[K8S]["pod"].update(uid="")),
    "pod uid with a slash": signed(lambda c: c[K8S]["pod"].update(uid="a/b")),
    "no account uid": signed(drop(K8S, "serviceaccount", "uid")),
    "subject of another": signed(lambda c: c.update(sub="system:serviceaccount:emojivoto:admin")),
    "alg none": by_hand({"alg": "none", "kid": "ec"}, json.dumps(claims()), lambda _: b"x"),
    "alg none, no signature": by_hand({"alg": "none"}, json.dumps(claims()), lambda _: b""),
    "hs256 with the public key": hs256_with_the_public_key(),
    "rs256 said of an ec key": by_hand({"alg": "RS256", "kid": "ec"}, json.dumps(claims()), es256),
    "unknown key": by_hand({"alg": "ES256", "kid": "other"}, json.dumps(claims()), es256),
    "no key id": by_hand({"alg": "ES256"}, json.dumps(claims()), es256),
    "crit": by_hand({"alg": "ES256", "kid": "ec", "crit": ["exp"]}, json.dumps(claims()), es256),
    "key in the header": by_hand(
        {"alg": "ES256", "jwk": jwk(KEY, "ec", "ES256")}, json.dumps(claims()), es256
    ),
    "duplicate key": duplicate("aud", json.dumps([AUDIENCE])),
    "duplicate key in the header": by_hand(
        '{"alg": "none", "alg": "ES256", "kid": "ec"}', json.dumps(claims()), es256
    ),
    "not a number": by_hand({"alg": "ES256", "kid": "ec"}, json.dumps(claims())[:-1] + ', "x": NaN}', es256),
    "deep": by_hand({"alg": "ES256", "kid": "ec"}, "[" * 5000 + "]" * 5000, es256),
    "flipped signature": flipped_signature(),
    "other body": other_body(),
    "one mebibyte": signed() + "A" * (1 << 20),
    "empty": "",
    "two parts": "a.b",
    "json": json.dumps(claims()),
    "non-ascii": "ä.ö.ü",
    "padded": signed() + "=",
}


@pytest.mark.parametrize("what", BAD)
async def test_id_03_a_bad_token_is_refused(what: str, verifier: JwksTokenVerifier) -> None:
    with pytest.raises(Refused) as refused:
        await verify(verifier, BAD[what])
    assert refused.value.code is Code.TOKEN_INVALID
    assert "eyJ" not in refused.value.detail


async def test_id_03_an_expired_token_is_refused_with_a_code_of_its_own(verifier: JwksTokenVerifier) -> None:
    with pytest.raises(Refused) as refused:
        await verify(verifier, signed(lambda c: c.update(exp=int(time.time()))))
    assert refused.value.code is Code.TOKEN_EXPIRED


async def test_a_new_key_is_read_when_it_turns_up(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = JwksTokenVerifier(jwks, ISSUER, AUDIENCE)
    monkeypatch.setattr("identity.tokens._RELOAD_SECONDS", 0.0)
    new = ec.generate_private_key(ec.SECP256R1())
    jwks.write_text(json.dumps({"keys": [jwk(new, "new", "ES256")]}))
    token = jwt.encode(claims(), new, algorithm="ES256", headers={"kid": "new"})
    assert (await verify(verifier, token)).pod_uid == "pod-uid"
    with pytest.raises(Refused):
        await verify(verifier, signed())


async def test_a_broken_jwks_keeps_the_former_keys(jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = JwksTokenVerifier(jwks, ISSUER, AUDIENCE)
    monkeypatch.setattr("identity.tokens._RELOAD_SECONDS", 0.0)
    jwks.write_text("{")
    with pytest.raises(Refused):
        await verify(verifier, BAD["unknown key"])
    assert (await verify(verifier, signed())).pod_uid == "pod-uid"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "expected JSON"),
        ("{}", "at least one key"),
        ('{"keys": []}', "at least one key"),
        ('{"keys": [], "keys": [1]}', "expected JSON"),
        ('{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a", "alg": "HS256"}]}', "kty"),
        (json.dumps({"keys": [jwk(KEY, "a", "ES256")] * 2}), "twice"),
        (json.dumps({"keys": [{**jwk(KEY, "a", "ES256"), "d": "AAAA"}]}), "public key"),
        (json.dumps({"keys": [{**jwk(KEY, "a", "ES256"), "alg": "HS256"}]}), "alg"),
        (json.dumps({"keys": [jwk(rsa.generate_private_key(65537, 1024), "a", "RS256")]}), "2048 bits"),
    ],
)
def test_a_jwks_that_should_not_be_used_is_refused(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(content)
    with pytest.raises(JwksError, match=expected):
        read_jwks(tmp_path / "jwks.json")
