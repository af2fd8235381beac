"""A cluster that is followed while something goes wrong on the way to a real API server (CT-01 to CT-03)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api import crds
from tests.api.faults import FaultProxy, refusing, status
from tests.api.following import follow, until, until_fresh
from tests.api.rig import ApiServer

SERVERS = "/apis/policyd.dev/v1alpha1/namespaces/{}/servers"


@pytest.fixture
async def proxy(api: ApiServer) -> AsyncIterator[FaultProxy]:
    await asyncio.to_thread(crds.install, api, *crds.ours())
    found = FaultProxy(api)
    await found.open()
    yield found
    await found.close()


def server(name: str, port: int = 80) -> dict[str, Any]:
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, "port": port},
    }


async def ask(api: ApiServer, method: str, path: str, body: object = None, **headers: str) -> Any:
    return await asyncio.to_thread(api.request, method, path, body, **headers)


async def make(api: ApiServer, namespace: str, *names: str) -> None:
    for name in names:
        await ask(api, "POST", SERVERS.format(namespace), server(name))


async def remove(api: ApiServer, namespace: str, name: str) -> None:
    await ask(api, "DELETE", f"{SERVERS.format(namespace)}/{name}")


GONE = {"type": "ERROR", "object": status(410, "Expired", "too old resource version")}


@pytest.mark.parametrize("form", ["http", "in_stream"])
async def test_ct_01_both_forms_of_410_end_in_a_new_list(
    api: ApiServer, proxy: FaultProxy, namespace: str, form: str
) -> None:
    await make(api, namespace, "kept", "goes")
    async with follow(proxy.access) as found:
        assert found.named("Server", namespace) == {"kept", "goes"}
        left = 3

        def gone(request: Any) -> Any:
            nonlocal left
            if "resourceVersion" not in request.query or "watch" not in request.query or left == 0:
                return None
            left -= 1
            return refusing(410, "Expired")(request)

        if form == "http":
            proxy.answer = gone
            proxy.stall()
            await remove(api, namespace, "goes")
            await make(api, namespace, "came")
            proxy.cut()
        else:
            proxy.stall()
            await remove(api, namespace, "goes")
            await make(api, namespace, "came")
            await proxy.inject(GONE)
        await until_fresh(api, found)
        assert found.named("Server", namespace) == {"kept", "came"}


async def test_ct_01_disconnects_while_everything_changes(
    api: ApiServer, proxy: FaultProxy, namespace: str
) -> None:
    async with follow(proxy.access) as found:
        for step in range(12):
            await make(api, namespace, f"s{step}")
            if step % 2:
                await remove(api, namespace, f"s{step - 1}")
            proxy.cut()
            await asyncio.sleep(0.1)
        await until_fresh(api, found)
        assert found.named("Server", namespace) == {f"s{step}" for step in range(1, 12, 2)}


async def test_ct_01_what_is_deleted_while_nobody_listens_goes(
    api: ApiServer, proxy: FaultProxy, namespace: str
) -> None:
    await make(api, namespace, "a", "b", "c")
    async with follow(proxy.access) as found:
        async with proxy.away():
            await remove(api, namespace, "b")
            await make(api, namespace, "d")
        await until_fresh(api, found)
        assert found.named("Server", namespace) == {"a", "c", "d"}


async def test_ct_01_stale_bookmarks_change_nothing(
    api: ApiServer, proxy: FaultProxy, namespace: str
) -> None:
    async with follow(proxy.access) as found:
        await make(api, namespace, "a")
        await until(lambda: found.named("Server", namespace) == {"a"})
        before = dict(found.batches[-1].versions)
        await proxy.inject({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}})
        await make(api, namespace, "b")
        await until(lambda: found.named("Server", namespace) == {"a", "b"})
        assert all(version >= before[kind] for kind, version in found.batches[-1].versions)


async def _change(api: ApiServer, namespace: str, dice: random.Random, names: set[str]) -> None:
    """Create, edit, delete, or delete and create again."""
    name = f"s{dice.randrange(8)}"
    path = f"{SERVERS.format(namespace)}/{name}"
    if name not in names:
        await make(api, namespace, name)
        names.add(name)
    elif dice.random() < 0.4:
        body = {"spec": {"port": dice.randrange(1, 60000)}}
        await ask(api, "PATCH", path, body, **{"Content-Type": "application/merge-patch+json"})
    else:
        await remove(api, namespace, name)
        names.discard(name)
        if dice.random() < 0.5:
            await make(api, namespace, name)
            names.add(name)


async def _misbehave(proxy: FaultProxy, dice: random.Random) -> None:
    proxy.answer, proxy.delay, proxy.disorder = None, 0.0, None
    match dice.randrange(8):
        case 0:
            proxy.cut()
        case 1:
            proxy.stall()
        case 2:
            await proxy.inject(GONE)
        case 3:
            proxy.answer = refusing(410, "Expired", watches_only=True)
            proxy.cut()
        case 4:
            proxy.answer = refusing(500, "InternalError")
            proxy.cut()
        case 5:
            proxy.answer = refusing(429, "TooManyRequests", headers={"Retry-After": "1"})
            proxy.cut()
        case 6:
            proxy.disorder = random.Random(dice.random())
        case _:
            proxy.delay = 0.3


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_ct_01_ct_02_after_random_faults_the_state_is_that_of_a_fresh_list(
    api: ApiServer, proxy: FaultProxy, namespace: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeapi.reflector.WATCH_SECONDS", (2, 3))
    monkeypatch.setattr("kubeapi.reflector.SLACK_SECONDS", 1.0)
    monkeypatch.setattr("kubeapi.backoff.LONGEST_SECONDS", 1.0)
    dice, names = random.Random(seed), set[str]()
    async with follow(proxy.access) as found:
        for step in range(40):
            if step % 4 == 0:
                await _misbehave(proxy, dice)
            await _change(api, namespace, dice, names)
            await asyncio.sleep(dice.random() * 0.1)
        proxy.answer, proxy.delay, proxy.disorder = None, 0.0, None
        await until_fresh(api, found)
        assert found.named("Server", namespace) == names


@pytest.mark.parametrize("fault", ["429", "500", "refused", "slow"])
async def test_ct_02_the_last_state_is_served_and_said_to_be_old(
    api: ApiServer, proxy: FaultProxy, namespace: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policyd.sources.kubernetes.followed.BEHIND_SECONDS", 0.5)
    monkeypatch.setattr("kubeapi.client.REQUEST_SECONDS", 1.0)
    monkeypatch.setattr("kubeapi.reflector.WATCH_SECONDS", (2, 2))
    monkeypatch.setattr("kubeapi.reflector.SLACK_SECONDS", 1.0)
    await make(api, namespace, "a")
    async with follow(proxy.access) as found:
        if fault == "refused":
            await proxy.close()
        elif fault == "slow":
            proxy.delay = 60.0
        else:
            proxy.answer = refusing(int(fault), "ByATest", headers={"Retry-After": "1"})
        proxy.cut()
        await make(api, namespace, "b")
        before, began = proxy.requests, time.monotonic()
        await until(lambda: "Server.policyd.dev" in found.source.behind)
        await asyncio.sleep(max(0.0, 3.0 - (time.monotonic() - began)))
        asked = proxy.requests - before
        assert asked <= 6 * 12 * (time.monotonic() - began), "a busy loop"  # six kinds, CRDs among them
        assert found.named("Server", namespace) == {"a"}
        finding = next(each for each in found.batches[-1].findings if "Server.policyd.dev" in each.text)
        assert finding.code == "source-behind"
        proxy.answer, proxy.delay = None, 0.0
        if fault == "refused":
            await proxy.open()
        await until_fresh(api, found)
        assert found.named("Server", namespace) == {"a", "b"}
        await until(lambda: found.batches[-1].findings == ())


async def test_ct_02_the_api_server_itself_goes_and_comes_back(
    api: ApiServer, proxy: FaultProxy, namespace: str
) -> None:
    await make(api, namespace, "a")
    async with follow(proxy.access) as found:

        def away() -> None:
            with api.away():
                pass

        await asyncio.to_thread(away)
        await make(api, namespace, "b")
        await until_fresh(api, found)
        assert found.named("Server", namespace) == {"a", "b"}


async def test_ct_02_a_rotated_token_is_taken_up(api: ApiServer, proxy: FaultProxy, namespace: str) -> None:
    from kubeapi.access import Access  # noqa: PLC0415
    from kubeapi.credentials import Credentials  # noqa: PLC0415

    token = "one"
    proxy.token = "one"
    access = Access(lambda: Credentials(f"http://127.0.0.1:{proxy.port}", f"Bearer {token}"))
    async with follow(access) as found:
        token = proxy.token = "two"
        proxy.cut()
        await make(api, namespace, "a")
        await until(lambda: found.named("Server", namespace) == {"a"})
        await until_fresh(api, found)


async def test_ct_03_a_watch_that_stalls_is_begun_again(
    api: ApiServer, proxy: FaultProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeapi.reflector.WATCH_SECONDS", (2, 2))
    monkeypatch.setattr("kubeapi.reflector.SLACK_SECONDS", 1.0)
    async with follow(proxy.access) as found:
        proxy.stall()
        await make(api, namespace, "a")
        took = await until(lambda: found.named("Server", namespace) == {"a"})
        assert took > 0.5, "nothing was stalled"
        await until_fresh(api, found)


async def test_ct_03_an_api_server_that_answers_nothing(
    api: ApiServer, proxy: FaultProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeapi.reflector.WATCH_SECONDS", (2, 2))
    monkeypatch.setattr("kubeapi.reflector.SLACK_SECONDS", 1.0)
    monkeypatch.setattr("policyd.sources.kubernetes.followed.BEHIND_SECONDS", 0.5)
    await make(api, namespace, "a")
    async with follow(proxy.access) as found:
        with api.silent():
            await until(lambda: "Server.policyd.dev" in found.source.behind)
            assert found.named("Server", namespace) == {"a"}
        await until_fresh(api, found)


async def test_what_happens_together_is_one_batch(api: ApiServer, proxy: FaultProxy, namespace: str) -> None:
    async with follow(proxy.access) as found:
        before = len(found.batches)
        await asyncio.gather(*(make(api, namespace, f"s{step}") for step in range(20)))
        await until(lambda: len(found.named("Server", namespace)) == 20)
        assert len([each for each in found.batches[before:] if each.events]) < 20
