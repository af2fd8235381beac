"""A root, an authority, a token issuer and the pieces around them, all in a folder of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from identity.audit import Journal
from identity.authority import Authority
from identity.issuance import Checks, Issuance
from identity.limits import Limits, Rate
from identity.material import create_root
from identity.pods import Unchecked
from identity.spiffe_id import SpiffeId, TrustDomain
from identity.tokens import JwksTokenVerifier
from policyd.up.tokens import Holder, TokenIssuer
from tests.unit.kubeapi.small_server import server

__all__ = ["server"]

AUDIENCE = "identity.test"
TRUST_DOMAIN = TrustDomain("cluster.local")
WEB = SpiffeId.of_service_account(TRUST_DOMAIN, "emojivoto", "web")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    create_root(folder, TRUST_DOMAIN)
    return folder


@pytest.fixture
def authority(root: Path) -> Authority:
    return Authority(root, TRUST_DOMAIN, timedelta(hours=24), datetime.now(UTC))


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def tokens() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture
def verifier(tokens: TokenIssuer, tmp_path: Path) -> JwksTokenVerifier:
    (tmp_path / "jwks.json").write_text(tokens.jwks())
    return JwksTokenVerifier(tmp_path / "jwks.json", tokens.issuer, AUDIENCE)


@pytest.fixture
def web_token(tokens: TokenIssuer) -> Callable[..., str]:
    """Mint a token of emojivoto/web; another pod's uid by choice."""

    def mint(pod_uid: str = "pod-uid-1") -> str:
        return tokens.mint(Holder("emojivoto", "web", "sa-uid", "web-0", pod_uid), AUDIENCE)

    return mint


@pytest_asyncio.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path / "journal.jsonl")
    yield journal
    await asyncio.wait_for(journal.close(), 5)


@pytest.fixture
def issuance(authority: Authority, journal: Journal, verifier: JwksTokenVerifier) -> Issuance:
    return Issuance(authority, journal, Checks(verifier, Unchecked(), Limits(Rate(0.1, 5))))
