"""What policyd vouches for: envelopes and confirmations, signed with its SVID's key (design §8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from policyd.distribute.basis import BasisRow, to_wire
from policyd_api.v1 import stream_pb2 as wire

ENVELOPE_CONTEXT = b"policyd.v1.Envelope"
CONFIRMATION_CONTEXT = b"policyd.v1.Confirmation"


class Signer(Protocol):
    """A key with a certificate: policyd's SVID, whichever is the current one."""

    @property
    def chain(self) -> Sequence[bytes]:
        """DER, leaf first; no root."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, ASN.1 DER."""


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


def sign_envelope(
    signer: Signer, subject: Subject, hashes: Hashes, standing: Standing, serial: int
) -> wire.Signed:
    """Vouch for an assignment."""
    envelope = wire.Envelope(
        trust_domain=subject.trust_domain,
        workload=subject.workload,
        pod_uid=subject.pod_uid,
        snapshot_sha256=hashes.snapshot,
        facts_sha256=hashes.facts,
        discovery_sha256=hashes.discovery,
        basis=to_wire(standing.basis),
        issued_at_millis=standing.at_millis,
        epoch=standing.epoch,
        serial=serial,
    )
    return _signed(signer, ENVELOPE_CONTEXT, envelope.SerializeToString(deterministic=True))


def sign_confirmation(signer: Signer, subject: Subject, hashes: Hashes, standing: Standing) -> wire.Signed:
    """Vouch that nothing newer is known."""
    confirmation = wire.Confirmation(
        workload=subject.workload,
        pod_uid=subject.pod_uid,
        snapshot_sha256=hashes.snapshot,
        facts_sha256=hashes.facts,
        basis=to_wire(standing.basis),
        epoch=standing.epoch,
        at_millis=standing.at_millis,
    )
    return _signed(signer, CONFIRMATION_CONTEXT, confirmation.SerializeToString(deterministic=True))


def _signed(signer: Signer, context: bytes, payload: bytes) -> wire.Signed:
    message = context + b"\x00" + payload
    return wire.Signed(payload=payload, signature=signer.sign(message), chain=signer.chain)
