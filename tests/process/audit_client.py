"""A writer of denials with a chain of its own, over a real connection; shares no code with the store."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from identity.spiffe_id import SpiffeId, TrustDomain
from policyd_api.v1 import audit_pb2 as wire
from policyd_api.v1.audit_grpc import AuditStreamStub
from servicekit.channel import VerifiedChannel
from servicekit.svid import Svid
from servicekit.tls import client_context

from .mesh import WAIT_SECONDS, Mesh


@dataclass
class Spool:
    """A chain as its writer has it."""

    name: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    records: list[wire.AuditRecord] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)

    def add(self, *records: dict[str, Any]) -> list[wire.AuditRecord]:
        added = []
        for record in records:
            content = json.dumps(record).encode()
            previous = self.hashes[-1] if self.hashes else bytes(32)
            sequence = len(self.records) + 1
            text = b"policyd.v1.AuditRecord\0" + self.name + sequence.to_bytes(8, "big") + previous + content
            self.hashes.append(hashlib.sha256(text).digest())
            self.records.append(wire.AuditRecord(sequence=sequence, previous_sha256=previous, json=content))
            added.append(self.records[-1])
        return added

    def hello(self, acknowledged: int = 0) -> wire.AuditMessage:
        sha256 = self.hashes[acknowledged - 1] if acknowledged else b""
        hello = wire.AuditHello(chain=self.name, acknowledged=acknowledged, acknowledged_sha256=sha256)
        return wire.AuditMessage(hello=hello)


@dataclass
class Delivery:
    """One stream that has said its Hello."""

    stream: Any

    async def send(self, records: list[wire.AuditRecord]) -> None:
        await self.stream.send_message(wire.AuditMessage(records=wire.AuditRecords(records=records)))

    async def acknowledged(self, sequence: int) -> None:
        """Wait until everything up to a record is acknowledged; a refusal is raised as GRPCError."""
        async with asyncio.timeout(WAIT_SECONDS):
            last = 0
            while last < sequence:
                ack = await self.stream.recv_message()
                if ack is None:
                    await self.stream.recv_trailing_metadata()
                    raise AssertionError(f"it ended at {last}")
                assert ack.sequence > last
                last = ack.sequence


def policyd_channel(mesh: Mesh, svid: Svid) -> VerifiedChannel:
    """A channel to policyd in the name of somebody."""
    pem = mesh.up.control_plane.roots_file.read_bytes()
    roots = [root.public_bytes(Encoding.DER) for root in x509.load_pem_x509_certificates(pem)]
    policyd = SpiffeId.of_service_account(TrustDomain(mesh.up.trust_domain), "policyd", "policyd")
    host, _, port = mesh.up.control_plane.policy_address.rpartition(":")
    return VerifiedChannel(host, int(port), client_context(roots, svid), policyd)


@asynccontextmanager
async def delivering(mesh: Mesh, svid: Svid, spool: Spool, acknowledged: int = 0) -> AsyncIterator[Delivery]:
    """Open a stream as somebody. What policyd refuses is raised as GRPCError when it is asked for."""
    channel = policyd_channel(mesh, svid)
    try:
        async with AuditStreamStub(channel).Deliver.open(timeout=60) as stream:
            await stream.send_message(spool.hello(acknowledged))
            yield Delivery(stream)
            await stream.cancel()
    finally:
        channel.close()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def identifier() -> str:
    """A UUIDv7, as proxies make them."""
    millis = int(datetime.now(UTC).timestamp() * 1000)
    text = f"{millis:012x}7{secrets.token_hex(2)[:3]}8{secrets.token_hex(8)[:15]}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
