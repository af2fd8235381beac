"""ServiceAccount tokens: who is asking. Verified offline against the issuer's JWKS, pinned and strict.

TokenReview implements the same `TokenVerifier`: authoritative at first issuance, and for keys the JWKS lacks.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt
import msgspec

from identity.refusal import Code, Refused
from servicekit.leaf import is_pod_uid

MAX_TOKEN_BYTES = 16 * 1024
SKEW_SECONDS = 60
"""How far an API server's clock may be ahead of ours (`nbf`, `iat`); `exp` is not extended."""
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"})
MIN_RSA_BITS = 2048
_RELOAD_SECONDS = 1.0
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class NamedObject(msgspec.Struct, frozen=True):
    """An object that a token is bound to."""

    name: str
    uid: str


class Bound(msgspec.Struct, frozen=True):
    """The claim `kubernetes.io`. A token that isn't bound to a pod lacks parts of it and is refused."""

    namespace: str
    serviceaccount: NamedObject
    pod: NamedObject


class Claims(msgspec.Struct, frozen=True, rename={"bound": "kubernetes.io"}):
    """What is read of a token, after its signature was verified."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: int
    nbf: int
    iat: int
    bound: Bound
    jti: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a verified token speaks for."""

    namespace: str
    service_account: str
    service_account_uid: str
    pod_name: str
    pod_uid: str
    token_id: str


class TokenVerifier(Protocol):
    """Says who a token speaks for; raises Refused (TOKEN_…)."""

    async def verify(self, token: str, *, renewal: bool) -> Caller: ...


class JwksError(ValueError):
    """A JWKS that can't be used; the message names the file and what is wrong."""


class JwksTokenVerifier:
    """Verifies tokens by the keys of a JWKS file, which is read again when an unknown key id turns up."""

    def __init__(self, jwks: Path, issuer: str, audience: str, now: Callable[[], float] = time.time) -> None:
        self._path = jwks
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self._keys = read_jwks(jwks)
        self._read_at = time.monotonic()

    async def verify(self, token: str, *, renewal: bool) -> Caller:  # noqa: ARG002 — both alike without a cluster
        payload = self._verified_payload(token)
        try:
            claims = msgspec.convert(payload, Claims)
        except msgspec.ValidationError as error:
            detail = f"the token isn't one bound to a ServiceAccount and a pod: {error}"
            raise Refused(Code.TOKEN_INVALID, detail) from error
        self._check_claims(claims)
        bound = claims.bound
        return Caller(
            namespace=bound.namespace,
            service_account=bound.serviceaccount.name,
            service_account_uid=bound.serviceaccount.uid,
            pod_name=bound.pod.name,
            pod_uid=bound.pod.uid,
            token_id=claims.jti[:200],
        )

    def _verified_payload(self, token: str) -> object:
        """Check form and signature, and read exactly the bytes that were verified."""
        parts = token.split(".")
        if len(token) > MAX_TOKEN_BYTES or len(parts) != 3 or not all(map(_BASE64URL.fullmatch, parts)):
            raise _invalid("it isn't a signed JWT of at most 16 KiB")
        header = strict_json(_decode(parts[0]))
        match header:
            case {"alg": str(algorithm), "kid": str(key_id)} if "crit" not in header:
                key = self._key(key_id, algorithm)
            case _:
                raise _invalid("its header needs `alg` and `kid`, and no `crit`")
        signed = token.rpartition(".")[0].encode("ascii")
        if not key.Algorithm.verify(signed, key.key, _decode(parts[2])):
            raise _invalid("its signature doesn't verify")
        return strict_json(_decode(parts[1]))

    def _key(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        if key_id not in self._keys:
            self._reload()
        key = self._keys.get(key_id)
        if key is None:
            raise _invalid(f"its key id {key_id[:80]!r} isn't among the issuer's keys")
        # The algorithm is the key's, never the token's choice: no `none`, no HMAC with a public key.
        if algorithm != key.algorithm_name:
            raise _invalid(f"its algorithm {algorithm[:20]!r} isn't its key's, {key.algorithm_name}")
        return key

    def _reload(self) -> None:
        """Read the keys again, at most once a second; what can't be read changes nothing."""
        if time.monotonic() - self._read_at < _RELOAD_SECONDS:
            return
        self._read_at = time.monotonic()
        try:
            self._keys = read_jwks(self._path)
        except JwksError:
            return

    def _check_claims(self, claims: Claims) -> None:
        bound, now = claims.bound, self._now()
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if claims.iss != self._issuer:
            raise _invalid("its issuer isn't ours")
        if self._audience not in audiences:
            raise _invalid(f"its audience isn't {self._audience!r}")
        if now >= claims.exp:
            raise Refused(Code.TOKEN_EXPIRED, "the token has expired; read it again from its file")
        if claims.nbf > now + SKEW_SECONDS or claims.iat > now + SKEW_SECONDS:
            raise _invalid("it isn't valid yet")
        if claims.sub != f"system:serviceaccount:{bound.namespace}:{bound.serviceaccount.name}":
            raise _invalid("its subject isn't the ServiceAccount it is bound to")
        if not is_pod_uid(bound.pod.uid) or not bound.serviceaccount.uid or not bound.pod.name:
            raise _invalid("it isn't bound to a pod and a ServiceAccount by their uids")


def read_jwks(path: Path) -> dict[str, jwt.PyJWK]:
    """Read the usable keys by key id; raises JwksError where a key is weak, private or listed twice."""
    try:
        document = strict_json(path.read_bytes())
    except OSError as error:
        raise JwksError(f"tokens.jwksFile {path}: {error.strerror}") from error
    except Refused as error:
        raise JwksError(f"tokens.jwksFile {path}: expected JSON, {error.detail}") from error
    match document:
        case {"keys": [_, *_] as entries}:
            pass
        case _:
            raise JwksError(f'tokens.jwksFile {path}: expected {{"keys": [...]}} with at least one key')
    keys: dict[str, jwt.PyJWK] = {}
    for place, entry in enumerate(entries):
        key_id, key = _read_key(entry, f"tokens.jwksFile {path}: keys[{place}]")
        if key_id in keys:
            raise JwksError(f"tokens.jwksFile {path}: keys[{place}]: key id {key_id!r} is there twice")
        keys[key_id] = key
    return keys


def _read_key(entry: Any, place: str) -> tuple[str, jwt.PyJWK]:
    match entry:
        case {"kid": str(key_id), "alg": str(algorithm), "kty": "RSA" | "EC"} if algorithm in ALGORITHMS:
            pass
        case _:
            raise JwksError(f"{place}: expected `kid`, `kty` RSA or EC, `alg` one of {sorted(ALGORITHMS)}")
    if "d" in entry:
        raise JwksError(f"{place}: expected a public key, got a private one")
    try:
        key = jwt.PyJWK.from_dict(entry)
    except jwt.PyJWTError as error:
        raise JwksError(f"{place}: {error}") from error
    if getattr(key.key, "key_size", 0) < MIN_RSA_BITS and entry["kty"] == "RSA":
        raise JwksError(f"{place}: expected an RSA key of at least {MIN_RSA_BITS} bits")
    return key_id, key


def strict_json(data: bytes) -> Any:
    """Parse JSON without duplicate keys, NaN or deep nesting; raises Refused(TOKEN_INVALID)."""
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"it isn't strict JSON: {type(error).__name__}") from error


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate key")
    return fields


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _decode(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError) as error:
        raise _invalid("it isn't base64url") from error


def _invalid(what: str) -> Refused:
    return Refused(Code.TOKEN_INVALID, f"the token: {what}")
