"""What an envelope says (design §8). It is made and signed where it is sent: `proxy/fanout`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from policyd.distribute.basis import BasisRow


@dataclass(frozen=True, slots=True)
class Hashes:
    """What a proxy is to enforce, by SHA-256 (raw bytes)."""

    snapshot: bytes
    facts: bytes
    discovery: bytes


@dataclass(frozen=True, slots=True)
class Subject:
    """For whom: names that the proxy compares with its own."""

    trust_domain: str
    workload: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How new it is."""

    epoch: int
    basis: tuple[BasisRow, ...]
    at_millis: int


def sha256(content: bytes) -> bytes:
    """Raw SHA-256."""
    return hashlib.sha256(content).digest()
