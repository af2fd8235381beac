"""A hash over a set of objects that can be kept up to date: the sum of their digests modulo 2^256.

Adding and subtracting make it independent of order. Finding two sets with one sum is a generalised birthday
problem over SHA-256 outputs; the hash guards against bugs and drift, no signature rests on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import msgspec

from policyd.resources.base import Resource, Unreadable

_MODULUS = 2**256
_ENCODER = msgspec.json.Encoder(order="deterministic")


def digest(found: Resource[object] | Unreadable) -> int:
    """Return a number for what an object says, whatever file and line it says it on."""
    key = found.key
    name = (key.group, key.kind, key.namespace, key.name)
    try:
        text = _ENCODER.encode((name, found.document.content))
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        # Integers beyond 64 bits: valid YAML, of no meaning to us, and no reason to stop.
        text = json.dumps((name, found.document.content), sort_keys=True, default=repr).encode()
    return int.from_bytes(hashlib.sha256(text).digest())


def sum_of(digests: Iterable[int]) -> int:
    return sum(digests) % _MODULUS


def hash_text(total: int) -> str:
    return f"sha256:{total:064x}"
