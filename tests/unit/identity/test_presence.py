"""How long a state of the cluster counts, and what it says of a pod."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from identity.cluster import presence
from identity.cluster.presence import HELD_SECONDS, Account, ClusterPods, Pod
from identity.refusal import Code, Refused
from identity.tokens import Caller
from kubeapi.client import Client
from kubeapi.told import Applied, Gone, ObjectName, Told, Undecodable
from tests.unit.kubeapi.small_server import Server

CALLER = Caller("emojivoto", "web", "sa-uid", "web-0", "pod-uid", "id-1")
POD, ACCOUNT = ObjectName("emojivoto", "web-0"), ObjectName("emojivoto", "web")


class Clock:
    """Seconds by which the clock is ahead of the real one."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pods(server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> ClusterPods:
    """Pod and account are there, as the first lists say."""
    monkeypatch.setattr(presence, "APPEAR_SECONDS", 0.05)
    found = ClusterPods(Client(server.access(), "test"), clock)
    put_pod(found)
    put_account(found)
    for state in (found.pods, found.accounts):
        state.reflector.listed.set()
    return found


def put_pod(pods: ClusterPods, uid: str = "pod-uid", **changes: Any) -> None:
    body = {"metadata": {}, "spec": {"serviceAccountName": "web"}, "status": {"phase": "Running"}, **changes}
    pods.pods.tell(Told(1, (Applied(POD, uid, msgspec.convert(body, Pod)),)))


def put_account(pods: ClusterPods, uid: str = "sa-uid", **meta: str) -> None:
    account = msgspec.convert({"metadata": meta}, Account)
    pods.accounts.tell(Told(1, (Applied(ACCOUNT, uid, account),)))


async def code(pods: ClusterPods) -> Code | None:
    try:
        await pods.require(CALLER)
    except Refused as refused:
        return refused.code
    return None


async def test_a_pod_that_is_there_is_there(pods: ClusterPods) -> None:
    assert await code(pods) is None


DELETED = "2026-11-21T20:00:00Z"
GONE: dict[str, Callable[[ClusterPods], None]] = {
    "pod deleted": lambda p: p.pods.tell(Told(2, (Gone(POD, "pod-uid"),))),
    "pod of the same name": lambda p: put_pod(p, "other-uid"),
    "pod of another account": lambda p: put_pod(p, spec={"serviceAccountName": "voting"}),
    "pod terminating": lambda p: put_pod(p, metadata={"deletionTimestamp": DELETED}),
    "pod ended": lambda p: put_pod(p, status={"phase": "Failed"}),
    "pod that can't be read": lambda p: p.pods.tell(
        Told(2, (Applied(POD, "pod-uid", Undecodable(b"", "")),))
    ),
    "account deleted": lambda p: p.accounts.tell(Told(2, (Gone(ACCOUNT, "sa-uid"),))),
    "account of the same name": lambda p: put_account(p, "other-uid"),
    "account terminating": lambda p: put_account(p, deletionTimestamp=DELETED),
}


@pytest.mark.parametrize("what", GONE)
async def test_id_03_a_pod_or_account_that_is_gone_gets_nothing(what: str, pods: ClusterPods) -> None:
    GONE[what](pods)
    assert await code(pods) is Code.POD_GONE


async def test_a_pod_whose_event_comes_after_its_token_is_waited_for(
    pods: ClusterPods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "APPEAR_SECONDS", 10.0)
    put_pod(pods, "former-uid")
    one, two = asyncio.ensure_future(code(pods)), asyncio.ensure_future(code(pods))
    await asyncio.sleep(0)
    put_pod(pods, "another-uid")
    await asyncio.sleep(0)
    put_pod(pods)
    async with asyncio.timeout(5):
        assert (await one, await two) == (None, None)


async def test_id_04_before_the_first_lists_nothing_is_known(pods: ClusterPods) -> None:
    pods.accounts.reflector.listed.clear()
    assert await code(pods) is Code.CLUSTER_UNKNOWN


async def test_id_04_the_last_state_counts_for_a_day(pods: ClusterPods, clock: Clock) -> None:
    clock.ahead = 2 * HELD_SECONDS  # quiet for long, but nothing failed
    assert await code(pods) is None
    pods.pods.reflector.failing_since = clock() - HELD_SECONDS + 60
    assert await code(pods) is None
    clock.ahead += 120
    assert await code(pods) is Code.CLUSTER_UNKNOWN
    pods.pods.reflector.failing_since = None
    assert await code(pods) is None
