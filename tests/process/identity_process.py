"""A real identity process on loopback, and grpcio as a client that shares no code with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec

from identity.material import create_root
from identity.spiffe_id import SpiffeId, TrustDomain
from policyd.up.tokens import Holder, TokenIssuer
from policyd_api.v1.identity_pb2 import CertifyRequest, CertifyResponse, TrustBundles, WatchBundlesRequest

TRUST_DOMAIN = TrustDomain("cluster.local")
AUDIENCE = "identity.test"
SERVER_NAME = "identity.policyd.sa.cluster.local"
SERVER_ID = SpiffeId.of_service_account(TRUST_DOMAIN, "policyd", "identity")
WAIT_SECONDS = 20


@dataclass
class World:
    """A folder with root, keys of tokens, pods and a configuration."""

    folder: Path
    tokens: TokenIssuer = field(default_factory=TokenIssuer)

    def __post_init__(self) -> None:
        if not self.root.exists():
            create_root(self.root, TRUST_DOMAIN)
        self.pods.mkdir(exist_ok=True)
        (self.folder / "jwks.json").write_text(self.tokens.jwks())

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def pods(self) -> Path:
        return self.folder / "pods"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def token(self, account: str = "web", pod_uid: str = "uid-1", audience: str = AUDIENCE) -> str:
        """Mint a token for a pod that is there."""
        name = f"{account}-{pod_uid}"
        meta = {"name": name, "namespace": "emojivoto", "uid": pod_uid}
        pod = {"kind": "Pod", "metadata": meta, "spec": {"serviceAccountName": account}}
        beside = self.pods / f".{name}"
        beside.write_text(json.dumps(pod))
        beside.rename(self.pods / f"{name}.json")
        return self.tokens.mint(Holder("emojivoto", account, "sa-uid", name, pod_uid), audience)

    def configure(self, **changes: Any) -> Path:
        settings: dict[str, Any] = {
            "trustDomain": str(TRUST_DOMAIN),
            "listen": "127.0.0.1:0",
            "issuerFolder": str(self.root),
            "tokens": {
                "jwksFile": str(self.folder / "jwks.json"),
                "issuer": self.tokens.issuer,
                "audience": AUDIENCE,
            },
            "podsFolder": str(self.pods),
            "journal": str(self.journal),
        }
        settings = {key: value for key, value in {**settings, **changes}.items() if value is not ...}
        path = self.folder / "identity.json"
        path.write_text(json.dumps(settings))
        return path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_bytes().splitlines()]


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "identity.main", "--config", str(config), *more]


@dataclass
class Running:
    process: subprocess.Popen[str]
    address: str
    world: World

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @contextmanager
    def client(self, key_pem: bytes | None = None, chain_pem: bytes | None = None) -> Iterator[Client]:
        roots = (self.world.root / "root.crt").read_bytes()
        credentials = grpc.ssl_channel_credentials(roots, key_pem, chain_pem)
        options = [("grpc.ssl_target_name_override", SERVER_NAME)]
        with grpc.secure_channel(self.address, credentials, options) as channel:
            yield Client(channel)


class Client:
    """The two calls, by their names."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._certify = channel.unary_unary(
            "/policyd.v1.Identity/Certify",
            request_serializer=CertifyRequest.SerializeToString,
            response_deserializer=CertifyResponse.FromString,
        )
        self._watch = channel.unary_stream(
            "/policyd.v1.Identity/WatchBundles",
            request_serializer=WatchBundlesRequest.SerializeToString,
            response_deserializer=TrustBundles.FromString,
        )

    def certify(self, csr: bytes, token: str) -> CertifyResponse:
        answer: CertifyResponse = self._certify(
            CertifyRequest(csr=csr, token=token), timeout=WAIT_SECONDS, wait_for_ready=False
        )
        return answer

    def refusal(self, csr: bytes, token: str) -> tuple[grpc.StatusCode, str]:
        """Ask for what will be refused: status, and the message's code."""
        try:
            self.certify(csr, token)
        except grpc.RpcError as error:
            return error.code(), error.details().partition(":")[0]
        raise AssertionError("it was issued")

    def watch(self) -> Iterator[TrustBundles]:
        stream: Iterator[TrustBundles] = self._watch(WatchBundlesRequest(), timeout=WAIT_SECONDS)
        return stream


@contextmanager
def serving(world: World, **changes: Any) -> Iterator[Running]:
    """Run identity until the block ends; it must then end by itself."""
    config = world.configure(**changes)
    with subprocess.Popen(command(config), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["event"] == "identity_ready"
            yield Running(process, ready["address"], world)
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
