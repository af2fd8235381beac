"""Which tokens are decided by the issuer's keys, and which are put to the API server."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from identity.cluster import issuer as issuer_module
from identity.cluster.issuer import DISCOVERY, JWKS, ClusterIssuer
from identity.cluster.review import TokenReviews
from identity.cluster.tokens import ClusterTokens
from identity.jwks import JwksError, usable_keys
from identity.metrics import Metrics
from identity.refusal import Code, Refused
from kubeapi.client import Client
from policyd.up.tokens import Holder, TokenIssuer
from tests.unit.kubeapi.small_server import Server, say

AUDIENCE = "identity.test"
REVIEW = "/apis/authentication.k8s.io/v1/tokenreviews"
UNKNOWN_KIND = {"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq", "pub": "AAAA"}
HOLDER = Holder("emojivoto", "web", "sa-uid", "web-0", "pod-uid")


class ApiServer:
    """Says what its issuer is, and yes to the pod's token."""

    def __init__(self, tokens: TokenIssuer) -> None:
        self.name = tokens.issuer
        self.keys: list[dict[str, Any]] = [*json.loads(tokens.jwks())["keys"], UNKNOWN_KIND]
        self.up = True

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if not self.up:
            return web.Response(status=500)
        if request.path == DISCOVERY:
            return web.json_response({"issuer": self.name, "jwks_uri": "https://elsewhere.test/keys"})
        if request.path == JWKS:
            return web.json_response({"keys": self.keys}, content_type="application/jwk-set+json")
        pod = {"pod-name": ["web-0"], "pod-uid": ["pod-uid"]}
        user = {
            "username": "system:serviceaccount:emojivoto:web",
            "uid": "sa-uid",
            "groups": ["system:serviceaccounts"],
            "extra": {f"authentication.kubernetes.io/{name}": value for name, value in pod.items()},
        }
        status = {"authenticated": True, "audiences": [AUDIENCE], "user": user}
        return await say(201, {"status": status})(request)


@pytest.fixture
def behind(tokens: TokenIssuer) -> ApiServer:
    return ApiServer(tokens)


@pytest_asyncio.fixture
async def verifier(
    server: Server, behind: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClusterTokens]:
    monkeypatch.setattr(issuer_module, "LEAST_SECONDS", 0.0)
    server.answers[:] = [behind]
    async with Client(server.access(), "test") as client:
        issuer = ClusterIssuer(client)
        await issuer.refresh()
        yield ClusterTokens(issuer, TokenReviews(client, AUDIENCE, Metrics()), AUDIENCE)


def reviews(server: Server) -> int:
    return sum(asked.path == REVIEW for asked in server.asked)


def other_key(tokens: TokenIssuer, **changes: Any) -> str:
    """A token that is as it should be, but for a key that nobody listed."""
    claims = jwt.decode(tokens.mint(HOLDER, AUDIENCE), options={"verify_signature": False})
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims | changes, key, algorithm="ES256", headers={"kid": "unlisted"})


async def test_a_first_certificate_needs_a_review_and_a_renewal_none(
    verifier: ClusterTokens, server: Server, tokens: TokenIssuer
) -> None:
    token = tokens.mint(HOLDER, AUDIENCE)
    assert (await verifier.verify(token, renewal=True)).pod_uid == "pod-uid"
    assert reviews(server) == 0
    assert (await verifier.verify(token, renewal=False)).pod_uid == "pod-uid"
    assert reviews(server) == 1


async def test_id_03_a_key_that_is_not_listed_is_a_question_for_the_api_server(
    verifier: ClusterTokens, server: Server, tokens: TokenIssuer
) -> None:
    assert (await verifier.verify(other_key(tokens), renewal=True)).pod_uid == "pod-uid"
    assert reviews(server) == 1


async def test_an_issuer_that_was_renamed_is_a_question_for_the_api_server(
    verifier: ClusterTokens, server: Server, behind: ApiServer, tokens: TokenIssuer
) -> None:
    behind.name = "https://renamed.test"
    await verifier._issuer.refresh()
    assert (await verifier.verify(tokens.mint(HOLDER, AUDIENCE), renewal=True)).pod_uid == "pod-uid"
    assert reviews(server) == 1


JUNK: dict[str, dict[str, Any]] = {
    "another audience": {"aud": ["vault"]},
    "expired": {"exp": 1},
    "not yet valid": {"nbf": int(time.time()) + 7200},
    "subject of another": {"sub": "system:serviceaccount:emojivoto:admin"},
    "bound to no pod": {"kubernetes.io": {"namespace": "emojivoto"}},
}


@pytest.mark.parametrize("what", JUNK)
async def test_id_03_junk_costs_the_api_server_nothing(
    what: str, verifier: ClusterTokens, server: Server, tokens: TokenIssuer
) -> None:
    before = len(server.asked)
    with pytest.raises(Refused) as refused:
        await verifier.verify(other_key(tokens, **JUNK[what]), renewal=False)
    assert refused.value.code in {Code.TOKEN_INVALID, Code.TOKEN_EXPIRED}
    assert len(server.asked) == before


async def test_id_04_keys_that_were_read_last_while_the_api_server_is_away(
    verifier: ClusterTokens, behind: ApiServer, tokens: TokenIssuer
) -> None:
    behind.up = False
    await verifier._issuer.refresh()
    assert (await verifier.verify(tokens.mint(HOLDER, AUDIENCE), renewal=True)).pod_uid == "pod-uid"
    for token, renewal in ((other_key(tokens), True), (tokens.mint(HOLDER, AUDIENCE), False)):
        with pytest.raises(Refused) as refused:
            await verifier.verify(token, renewal=renewal)
        assert refused.value.code is Code.TOKEN_REVIEWER_UNAVAILABLE


async def test_a_new_key_is_read_when_it_turns_up(
    verifier: ClusterTokens, server: Server, behind: ApiServer
) -> None:
    another = TokenIssuer()
    token = another.mint(HOLDER, AUDIENCE)
    behind.keys = json.loads(another.jwks())["keys"]
    assert (await verifier.verify(token, renewal=True)).pod_uid == "pod-uid"
    assert reviews(server) == 0


def test_keys_of_no_use_are_passed_over() -> None:
    known = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
    listed = [UNKNOWN_KIND, {**known, "kid": "a", "alg": "ES256"}, {**known, "kid": "b", "alg": "none"}]
    assert usable_keys(json.dumps({"keys": listed}).encode(), "there").keys() == {"a"}
    with pytest.raises(JwksError, match="there"):
        usable_keys(json.dumps({"keys": [UNKNOWN_KIND]}).encode(), "there")
