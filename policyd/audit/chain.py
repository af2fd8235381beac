"""Chains of records: each names the hash of the one before (proto/policyd/v1/audit.proto)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from policyd.errors import ChainRefused

CHAIN_BYTES = 16
HASH_BYTES = 32
ORIGIN = bytes(HASH_BYTES)
"""What stands in the place of a record before the first."""
_CONTEXT = b"policyd.v1.AuditRecord\x00"

CHAIN_BROKEN = "CHAIN_BROKEN"
ROLLED_BACK = "ROLLED_BACK"
WRONG_WRITER = "WRONG_WRITER"


@dataclass(frozen=True, slots=True)
class Link:
    """A record as it was delivered: its sequence, the hash it names, its bytes."""

    sequence: int
    previous: bytes
    json: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Up to where a chain goes; sequence 0 is the beginning."""

    sequence: int = 0
    sha256: bytes = ORIGIN


def record_hash(chain: bytes, link: Link) -> bytes:
    """Return the SHA-256 that the next record names."""
    message = _CONTEXT + chain + link.sequence.to_bytes(8, "big") + link.previous + link.json
    return hashlib.sha256(message).digest()


def extended(chain: bytes, head: Head, links: Sequence[Link]) -> list[Head]:
    """Return the head after each record. Raises ChainRefused at the first that doesn't follow."""
    heads = []
    for link in links:
        if link.sequence != head.sequence + 1:
            raise ChainRefused(CHAIN_BROKEN, f"{link.sequence} after {head.sequence}")
        if link.previous != head.sha256:
            raise ChainRefused(CHAIN_BROKEN, f"{link.sequence} names another record before it")
        head = Head(link.sequence, record_hash(chain, link))
        heads.append(head)
    return heads
