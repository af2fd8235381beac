"""A small HTTP server that says what a test tells it to, and that keeps what it was asked."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kubeapi.access import Access
from kubeapi.credentials import Credentials

Say = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """`answers` are given in their order, the last one again and again."""

    url: str
    answers: list[Say]
    asked: list[Asked] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(
            Asked(
                request.method, request.path, dict(request.query), dict(request.headers), await request.read()
            )
        )
        return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)

    def access(self, read: Callable[[], Credentials] | None = None) -> Access:
        return Access(read or (lambda: Credentials(self.url, "Bearer one")))


def say(status: int = 200, body: object = None, headers: dict[str, str] | None = None) -> Say:
    """An answer: bytes as they are, everything else as JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        if isinstance(body, bytes):
            return web.Response(status=status, body=body, headers=headers)
        return web.json_response({} if body is None else body, status=status, headers=headers)

    return answer


def status(code: int, reason: str, message: str) -> dict[str, object]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    app = web.Application(client_max_size=2**26)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    kept = Server("", [say()])
    app.router.add_route("*", "/{rest:.*}", kept.handle)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    kept.url = f"http://{host}:{port}"
    yield kept
    await runner.cleanup()


@dataclass(frozen=True)
class Pair:
    """A self-signed certificate for 127.0.0.1 and its key, in files."""

    certificate: Path
    key: Path


def make_pair(folder: Path, name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(name)])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    signed = (
        x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(san, False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    pair.certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)
