"""A real identity process beside a real API server, with the rights an install gives it and no others."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from servicekit.renewal import make_csr
from tests.api import objects
from tests.api.rig import ApiServer, free_ports
from tests.process.identity_process import Running, World, serving

AUDIENCE = "policyd-identity"
NAMESPACE = "policyd"
RULES: tuple[dict[str, Any], ...] = (
    {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["pods", "serviceaccounts", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["policyd.dev"], "resources": ["meshdefaults"], "verbs": ["list", "watch"]},
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": ["policyd-trust-bundle"],
        "verbs": ["list", "watch", "create", "patch"],
    },
    {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["clustertrustbundles"],
        "resourceNames": ["policyd.dev:identity:trust-bundle"],
        "verbs": ["get", "create", "patch"],
    },
    {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["signers"],
        "resourceNames": ["policyd.dev/identity"],
        "verbs": ["attest"],
    },
)
"""All that identity may do in a cluster."""


@dataclass
class Certified:
    """A certificate that was issued, and its key."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[bytes, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.chain[0])

    @property
    def uri(self) -> str:
        names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        return uri

    def pem(self) -> tuple[bytes, bytes]:
        """Return key and chain as a client shows them."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in self.chain]
        return key, b"".join(chain)


@dataclass
class Identity:
    """Identity as its clients see it."""

    running: Running
    metrics_port: int

    def certify(self, token: str, shown: Certified | None = None) -> Certified:
        """Ask for a certificate, with the one before where there is one; raises grpc.RpcError."""
        key = ec.generate_private_key(ec.SECP256R1())
        with self.running.client(*(shown.pem() if shown else ())) as client:
            return Certified(key, tuple(client.certify(make_csr(key), token).chain))

    def refusal(self, token: str) -> tuple[str, str]:
        """Ask for what will be refused: gRPC status, and the code."""
        with self.running.client() as client:
            status, code = client.refusal(make_csr(ec.generate_private_key(ec.SECP256R1())), token)
        return status.name, code

    def renewal(self, token: str, shown: Certified) -> str:
        """Renew; returns the code that it is refused with, "" where it isn't."""
        try:
            self.certify(token, shown)
        except grpc.RpcError as error:
            return str(error.details()).partition(":")[0]
        return ""

    def metric(self, name: str) -> float:
        """Read one line of the metrics, labels included; 0 where it isn't there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextmanager
def running_identity(api: ApiServer, folder: Path, **changes: Any) -> Iterator[Identity]:
    """Run identity in namespace `policyd`, which is made where it isn't there."""
    [metrics_port] = free_ports(1)
    world = World(folder)
    cluster = {"audience": AUDIENCE, "kubeconfig": str(kubeconfig(api))}
    settings = {
        "tokens": ...,
        "podsFolder": ...,
        "cluster": cluster,
        "metricsListen": f"127.0.0.1:{metrics_port}",
        **changes,
    }
    with serving(world, **settings) as running:
        yield Identity(running, metrics_port)


def kubeconfig(api: ApiServer) -> Path:
    """Return the kubeconfig of identity's own account."""
    path = api.folder / "identity.kubeconfig"
    if not path.exists():
        if not json.loads(
            api.kubectl("get", "namespaces", NAMESPACE, "--ignore-not-found", "-o", "json") or "{}"
        ):
            objects.create_namespace(api, NAMESPACE)
        objects.create_account(api, NAMESPACE, "identity")
        objects.grant(api, NAMESPACE, "identity", *RULES)
        api.write_kubeconfig("identity", objects.account_token(api, NAMESPACE, "identity"))
    return path
