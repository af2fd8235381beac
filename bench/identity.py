"""Certificates a second, over gRPC and TLS, every check and the journal on. The server has its own core."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from identity.material import create_root
from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.up.tokens import Holder, TokenIssuer
from policyd_api.v1.identity_grpc import IdentityStub
from policyd_api.v1.identity_pb2 import CertifyRequest
from servicekit.channel import VerifiedChannel
from servicekit.renewal import make_csr
from servicekit.tls import client_context

PODS = 4000
CHANNELS = 8
IN_FLIGHT = 32
NEW_CONNECTIONS = 800
_TRUST_DOMAIN = TrustDomain("bench.local")
_AUDIENCE = "bench"


@dataclass(frozen=True, slots=True)
class _Server:
    pid: int
    host: str
    port: int
    root: Path

    def channel(self) -> VerifiedChannel:
        root = x509.load_pem_x509_certificate(self.root.read_bytes()).public_bytes(Encoding.DER)
        identity = SpiffeId.of_service_account(_TRUST_DOMAIN, "policyd", "identity")
        return VerifiedChannel(self.host, self.port, client_context([root]), identity)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run() -> list[dict[str, object]]:
    """Return rows: kept and new connections; per second of the clock and of the server's CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        issuer = TokenIssuer()
        requests = [_request(issuer, folder / "pods", number) for number in range(PODS)]
        rows: list[dict[str, object]] = []
        for connections, count in (("kept", PODS), ("new for each", NEW_CONNECTIONS)):
            with _serve(folder, issuer, f"{connections}.jsonl") as server:
                rows.append(uvloop.run(_measure(server, connections, requests[:count])))
        return rows


async def _measure(server: _Server, connections: str, requests: list[CertifyRequest]) -> dict[str, object]:
    kept = [server.channel() for _ in range(CHANNELS)] if connections == "kept" else []
    # The first question makes the server look through the folder of pods: not what is measured.
    probe = server.channel()
    await IdentityStub(probe).Certify(requests[0])
    probe.close()
    work, times = iter(zip(requests, cycle(kept or [None]), strict=False)), []

    async def caller() -> None:
        for request, channel in work:
            begin = perf_counter()
            own = channel or server.channel()
            await IdentityStub(own).Certify(request)
            times.append(perf_counter() - begin)
            if channel is None:
                own.close()

    begin, cpu = perf_counter(), server.cpu_seconds()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    took, cpu = perf_counter() - begin, server.cpu_seconds() - cpu
    for channel in kept:
        channel.close()
    times.sort()
    return {
        "bench": "identity",
        "connections": connections,
        "certificates": len(times),
        "per_second": round(len(times) / took),
        "per_cpu_second": round(len(times) / cpu),
        "p50_ms": round(times[len(times) // 2] * 1e3, 1),
        "p99_ms": round(times[len(times) * 99 // 100] * 1e3, 1),
    }


@contextmanager
def _serve(folder: Path, issuer: TokenIssuer, journal: str) -> Iterator[_Server]:
    root = folder / "root"
    if not root.exists():
        create_root(root, _TRUST_DOMAIN)
    (folder / "jwks.json").write_text(issuer.jwks())
    settings = {
        "trustDomain": str(_TRUST_DOMAIN),
        "listen": "127.0.0.1:0",
        "issuerFolder": str(root),
        "tokens": {"jwksFile": str(folder / "jwks.json"), "issuer": issuer.issuer, "audience": _AUDIENCE},
        "podsFolder": str(folder / "pods"),
        "journal": str(folder / journal),
    }
    (folder / "identity.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "identity.main", "--config", str(folder / "identity.json")]
    cores = sorted(os.sched_getaffinity(0))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            os.sched_setaffinity(process.pid, cores[:1])
            assert process.stdout is not None  # noqa: S101 — a pipe was asked for
            host, _, port = json.loads(process.stdout.readline())["address"].rpartition(":")
            yield _Server(process.pid, host, int(port), root / "root.crt")
        finally:
            process.terminate()


def _request(issuer: TokenIssuer, pods: Path, number: int) -> CertifyRequest:
    pods.mkdir(exist_ok=True)
    uid, name = f"uid-{number}", f"pod-{number}"
    meta = {"name": name, "namespace": "bench", "uid": uid}
    pod = {"kind": "Pod", "metadata": meta, "spec": {"serviceAccountName": "caller"}}
    (pods / f"{name}.json").write_text(json.dumps(pod))
    token = issuer.mint(Holder("bench", "caller", "sa", name, uid), _AUDIENCE)
    return CertifyRequest(csr=make_csr(ec.generate_private_key(ec.SECP256R1())), token=token)
