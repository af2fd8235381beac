"""Public keys of an issuer of tokens (JWKS): which of them can be used, and by which algorithm alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"})
MIN_RSA_BITS = 2048

Keys = Mapping[str, jwt.PyJWK]
"""By key id; each with the one algorithm it is listed with."""


class JwksError(ValueError):
    """A JWKS that can't be used; the message says where it is from and what is wrong."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens count, and by which keys."""

    name: str
    keys: Keys


def read_jwks(path: Path) -> Keys:
    """Read a file of keys; raises JwksError where one is weak, private, unusable or listed twice."""
    place = f"tokens.jwksFile {path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JwksError(f"{place}: {error.strerror}") from error
    keys: dict[str, jwt.PyJWK] = {}
    for number, entry in enumerate(_entries(content, place)):
        key_id, key = _read_key(entry, f"{place}: keys[{number}]")
        if key_id in keys:
            raise JwksError(f"{place}: keys[{number}]: key id {key_id!r} is there twice")
        keys[key_id] = key
    return keys


def usable_keys(content: bytes, place: str) -> Keys:
    """Read the keys that we can use, and pass over others: the issuer may know algorithms that we don't.

    Raises JwksError where there is none, or where it isn't a JWKS at all.
    """
    keys: dict[str, jwt.PyJWK] = {}
    problem = "no keys"
    for number, entry in enumerate(_entries(content, place)):
        try:
            key_id, key = _read_key(entry, f"keys[{number}]")
        except JwksError as error:
            problem = str(error)
            continue
        keys.setdefault(key_id, key)
    if not keys:
        raise JwksError(f"{place}: {problem}")
    return keys


def _entries(content: bytes, place: str) -> list[Any]:
    try:
        document = strict_json(content)
    except ValueError as error:
        raise JwksError(f"{place}: expected JSON, {error}") from error
    match document:
        case {"keys": [_, *_] as entries}:
            return list(entries)
        case _:
            raise JwksError(f'{place}: expected {{"keys": [...]}} with at least one key')


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
    """Parse JSON without duplicate keys, NaN or deep nesting; raises ValueError."""
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it isn't strict JSON: {type(error).__name__}") from error


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate key")
    return fields


def _no_constant(name: str) -> object:
    raise ValueError(name)
