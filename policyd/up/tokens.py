"""ServiceAccount tokens as an API server projects them, from an issuer that lives as long as the run."""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER = "https://policyctl-up.invalid"
LIFETIME_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a token speaks for."""

    namespace: str
    service_account: str
    service_account_uid: str
    pod_name: str
    pod_uid: str


class TokenIssuer:
    """Signs tokens with a key of its own, which never leaves the process."""

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._key_id = secrets.token_hex(8)

    def jwks(self) -> str:
        """Return the JSON by which the tokens verify."""
        key = json.loads(ECAlgorithm.to_jwk(self._key.public_key()))
        return json.dumps({"keys": [{**key, "kid": self._key_id, "alg": "ES256", "use": "sig"}]})

    def mint(self, holder: Holder, audience: str, lifetime_seconds: int = LIFETIME_SECONDS) -> str:
        """Return a token as a projected volume would hold it."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": f"system:serviceaccount:{holder.namespace}:{holder.service_account}",
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + lifetime_seconds,
            "jti": secrets.token_hex(16),
            "kubernetes.io": {
                "namespace": holder.namespace,
                "pod": {"name": holder.pod_name, "uid": holder.pod_uid},
                "serviceaccount": {"name": holder.service_account, "uid": holder.service_account_uid},
            },
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})


def write_private(path: Path, content: str | bytes) -> None:
    """Replace a file of ours (0600) at once, so that no reader sees half of it."""
    beside = path.with_name(f".{path.name}.new")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
    beside.replace(path)
