"""ServiceAccount tokens: who is asking. What can be said offline, by the issuer's keys, pinned and strict.

`JwksTokenVerifier` has nothing but a file of keys; `identity.cluster.tokens` asks the API server too.
"""

from __future__ import annotations

import binascii
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt
import msgspec

from identity.jwks import Issuer, JwksError, read_jwks, strict_json
from identity.refusal import Code, Refused
from servicekit.leaf import is_pod_uid

MAX_TOKEN_BYTES = 16 * 1024
SKEW_SECONDS = 60
"""How far an API server's clock may be ahead of ours (`nbf`, `iat`); `exp` is not extended."""
MAX_TOKEN_ID = 200
"""Characters of a token's `jti` that are written down."""
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
    """What is read of a token."""

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


class Undecided(Exception):  # noqa: N818 — an answer, not a fault
    """The keys at hand say nothing of this token: another key or issuer. Nothing of it is verified."""


def check_offline(token: str, issuer: Issuer, audience: str, now: float) -> Caller:
    """Say who a token speaks for by the issuer's keys; `now` in seconds since 1970.

    Raises Refused (TOKEN_INVALID, TOKEN_EXPIRED) where it is no good whoever signed it, or isn't signed as it
    says; Undecided where that can't be known.
    """
    parts = token.split(".")
    if len(token) > MAX_TOKEN_BYTES or len(parts) != 3 or not all(map(_BASE64URL.fullmatch, parts)):
        raise _invalid("it isn't a signed JWT of at most 16 KiB")
    header, payload, signature = map(_decode, parts)
    key_id, key = _find_key(_strict(header), issuer)
    # Read only what was verified: these very bytes.
    if key is not None and not key.Algorithm.verify(token.rpartition(".")[0].encode(), key.key, signature):
        raise _invalid("its signature doesn't verify")
    claims = _read_claims(payload)
    _check_claims(claims, audience, now)
    if key is None:
        raise Undecided(f"its key id {key_id[:80]!r} isn't among the issuer's keys")
    if claims.iss != issuer.name:
        raise Undecided("its issuer isn't ours")
    bound = claims.bound
    return Caller(
        namespace=bound.namespace,
        service_account=bound.serviceaccount.name,
        service_account_uid=bound.serviceaccount.uid,
        pod_name=bound.pod.name,
        pod_uid=bound.pod.uid,
        token_id=claims.jti[:MAX_TOKEN_ID],
    )


class JwksTokenVerifier:
    """Verifies tokens by the keys of a JWKS file, which is read again when an unknown key id turns up."""

    def __init__(self, jwks: Path, issuer: str, audience: str, now: Callable[[], float] = time.time) -> None:
        self._path = jwks
        self._audience = audience
        self._now = now
        self._issuer = Issuer(issuer, read_jwks(jwks))
        self._read_at = time.monotonic()

    async def verify(self, token: str, *, renewal: bool) -> Caller:  # noqa: ARG002 — both alike without a cluster
        try:
            return self._check(token)
        except Undecided:
            self._reload()
        try:
            return self._check(token)
        except Undecided as undecided:
            raise _invalid(str(undecided)) from undecided

    def _check(self, token: str) -> Caller:
        return check_offline(token, self._issuer, self._audience, self._now())

    def _reload(self) -> None:
        """Read the keys again, at most once a second; what can't be read changes nothing."""
        if time.monotonic() - self._read_at < _RELOAD_SECONDS:
            return
        self._read_at = time.monotonic()
        try:
            self._issuer = Issuer(self._issuer.name, read_jwks(self._path))
        except JwksError:
            return


def _find_key(header: Any, issuer: Issuer) -> tuple[str, jwt.PyJWK | None]:
    match header:
        case {"alg": str(algorithm), "kid": str(key_id)} if "crit" not in header:
            key = issuer.keys.get(key_id)
        case _:
            raise _invalid("its header needs `alg` and `kid`, and no `crit`")
    # The algorithm is the key's, never the token's choice: no `none`, no HMAC with a public key.
    if key is not None and algorithm != key.algorithm_name:
        raise _invalid(f"its algorithm {algorithm[:20]!r} isn't its key's, {key.algorithm_name}")
    return key_id, key


def _read_claims(payload: bytes) -> Claims:
    try:
        return msgspec.convert(_strict(payload), Claims)
    except msgspec.ValidationError as error:
        raise _invalid(f"it isn't one bound to a ServiceAccount and a pod: {error}") from error


def _check_claims(claims: Claims, audience: str, now: float) -> None:
    """Refuse what no issuer could make good."""
    bound = claims.bound
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if audience not in audiences:
        raise _invalid(f"its audience isn't {audience!r}")
    if now >= claims.exp:
        raise Refused(Code.TOKEN_EXPIRED, "the token has expired; read it again from its file")
    if claims.nbf > now + SKEW_SECONDS or claims.iat > now + SKEW_SECONDS:
        raise _invalid("it isn't valid yet")
    if claims.sub != f"system:serviceaccount:{bound.namespace}:{bound.serviceaccount.name}":
        raise _invalid("its subject isn't the ServiceAccount it is bound to")
    if not is_pod_uid(bound.pod.uid) or not bound.serviceaccount.uid or not bound.pod.name:
        raise _invalid("it isn't bound to a pod and a ServiceAccount by their uids")


def _strict(data: bytes) -> Any:
    try:
        return strict_json(data)
    except ValueError as error:
        raise _invalid(str(error)) from error


def _decode(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError) as error:
        raise _invalid("it isn't base64url") from error


def _invalid(what: str) -> Refused:
    return Refused(Code.TOKEN_INVALID, f"the token: {what}")
