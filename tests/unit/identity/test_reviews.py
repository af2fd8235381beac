"""What identity makes of the API server's word on a token, and of silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from identity.cluster import review
from identity.cluster.review import TokenReviews
from identity.metrics import Metrics
from identity.refusal import Code, Refused
from identity.tokens import Caller
from kubeapi.client import Client
from tests.unit.kubeapi.small_server import Say, Server, say

AUDIENCE = "identity.test"
CALLER = Caller("emojivoto", "web", "sa-uid", "web-0", "pod-uid", "id-1")


def status(**changes: Any) -> dict[str, Any]:
    user = {
        "username": "system:serviceaccount:emojivoto:web",
        "uid": "sa-uid",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:emojivoto", "system:authenticated"],
        "extra": {
            "authentication.kubernetes.io/pod-name": ["web-0"],
            "authentication.kubernetes.io/pod-uid": ["pod-uid"],
            "authentication.kubernetes.io/credential-id": ["JTI=id-1"],
        },
    }
    said = {"authenticated": True, "audiences": [AUDIENCE], "user": user | changes.pop("user", {}), **changes}
    return {"kind": "TokenReview", "status": {key: value for key, value in said.items() if value is not ...}}


def extra(**changes: list[str]) -> dict[str, Any]:
    names = {name.replace("_", "-"): value for name, value in changes.items()}
    found = status()["status"]["user"]["extra"]
    return {"extra": found | {f"authentication.kubernetes.io/{name}": each for name, each in names.items()}}


@pytest_asyncio.fixture
async def reviews(server: Server) -> AsyncIterator[TokenReviews]:
    server.answers[:] = [say(201, status())]
    async with Client(server.access(), "test") as client:
        yield TokenReviews(client, AUDIENCE, Metrics())


async def refusal(reviews: TokenReviews, token: str = "t.o.k", claimed: Caller | None = None) -> Refused:
    with pytest.raises(Refused) as refused:
        await reviews.review(token, claimed)
    return refused.value


async def test_a_review_says_who_calls(reviews: TokenReviews, server: Server) -> None:
    assert await reviews.review("t.o.k", None) == CALLER
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
    assert b'"audiences": ["identity.test"]' in asked.body


NO: dict[str, Any] = {
    "not authenticated": status(authenticated=False, error="[invalid bearer token, token has expired]"),
    "nothing said": {"status": {}},
    "a person": status(user={"username": "admin"}),
    "more names": status(user={"username": "system:serviceaccount:emojivoto:web:x"}),
    "an empty name": status(user={"username": "system:serviceaccount:emojivoto:"}),
    "not of the group": status(user={"groups": ["system:authenticated"]}),
    "no account uid": status(user={"uid": ""}),
    "bound to no pod": status(user={"extra": {}}),
    "bound to two pods": status(user=extra(pod_uid=["pod-uid", "other"])),
    "a pod uid that no certificate can carry": status(user=extra(pod_uid=["a/b"])),
}


@pytest.mark.parametrize("what", NO)
async def test_id_03_a_review_that_says_no_is_a_no(what: str, reviews: TokenReviews, server: Server) -> None:
    server.answers[:] = [say(201, NO[what])]
    assert (await refusal(reviews)).code is Code.TOKEN_INVALID


async def silence(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


UNCLEAR: dict[str, Say] = {
    "authenticated with an error": say(201, status(error="a webhook failed")),
    "another audience": say(201, status(audiences=["https://kubernetes.default.svc"])),
    "no audience": say(201, status(audiences=...)),
    "too many requests": say(429, {"message": "later"}, {"Retry-After": "9"}),
    "broken": say(500, {"message": "etcdserver: leader changed"}),
    "we may not": say(403, {"message": "tokenreviews is forbidden"}),
    "we aren't known": say(401, {"message": "Unauthorized"}),
    "junk": say(201, b"<html>"),
    "authenticated as text": say(201, status(authenticated="true")),
    "silence": silence,
}


@pytest.mark.parametrize("what", UNCLEAR)
async def test_id_04_an_unclear_review_is_refused_for_now(
    what: str, reviews: TokenReviews, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "REVIEW_SECONDS", 0.5)
    server.answers[:] = [UNCLEAR[what], say(201, status())]
    refused = await refusal(reviews)
    assert refused.code is Code.TOKEN_REVIEWER_UNAVAILABLE
    assert "t.o.k" not in refused.detail
    # Nothing of it is remembered.
    assert await reviews.review("t.o.k", None) == CALLER


async def test_id_04_no_token_is_reviewed_twice(reviews: TokenReviews, server: Server) -> None:
    tokens = [f"t.o.{number}" for number in range(5)]
    callers = await asyncio.gather(*(reviews.review(token, None) for token in tokens * 4))
    assert set(callers) == {CALLER}
    await reviews.review(tokens[0], None)
    assert len(server.asked) == len(tokens)


async def test_id_04_who_gives_up_takes_nothing_from_the_others(
    reviews: TokenReviews, server: Server
) -> None:
    answer = asyncio.Event()

    async def patient(request: web.Request) -> web.StreamResponse:
        await answer.wait()
        return await say(201, status())(request)

    server.answers[:] = [patient]
    first, second = (asyncio.create_task(reviews.review("t.o.k", None)) for _ in range(2))
    async with asyncio.timeout(10):
        while not server.asked:
            await asyncio.sleep(0)
        first.cancel()
        answer.set()
        assert await second == CALLER
    assert len(server.asked) == 1


async def test_id_04_a_yes_is_asked_for_again(
    reviews: TokenReviews, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reviews.review("t.o.k", None)
    monkeypatch.setattr(review, "YES_SECONDS", 0.0)
    await reviews.review("t.o.k", None)
    assert len(server.asked) == 2


async def test_id_03_a_review_that_names_another_than_the_token_is_a_no(reviews: TokenReviews) -> None:
    other = Caller("emojivoto", "web", "sa-uid", "web-0", "other-uid", "id-1")
    assert (await refusal(reviews, claimed=other)).code is Code.TOKEN_INVALID


async def test_id_05_made_up_tokens_cost_others_nothing(reviews: TokenReviews, server: Server) -> None:
    server.answers[:] = [say(201, status(authenticated=False))]
    codes = [(await refusal(reviews, f"t.o.{number}")).code for number in range(60)]
    assert codes[-1] is Code.RATE_LIMITED
    assert len(server.asked) < 60
    server.answers[:] = [say(201, status())]
    assert await reviews.review("t.o.known", CALLER) == CALLER
