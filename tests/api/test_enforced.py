"""Which proxies enforce a policy, as its status tells: one replica, two, and when one of them goes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeapi.lease import Timing
from policyd.status.holdback import LAG_SECONDS
from tests.api import objects
from tests.api.policyd_process import Policyd, real_crds
from tests.api.proxies import Mesh, connected, mesh, meshed
from tests.api.rig import ApiServer
from tests.api.test_status import policy, raw, server

TAKEOVER_SECONDS = Timing().lease + 30.0
"""Of a Lease that nobody gives back, on a busy machine."""


@pytest.fixture
def some(api: ApiServer, tmp_path: Path) -> Iterator[Mesh]:
    real_crds(api)
    with mesh(api, tmp_path) as found:
        yield found


@contextlib.asynccontextmanager
async def replica(some: Mesh, name: str) -> AsyncIterator[Policyd]:
    made = await asyncio.to_thread(some.policyd, name)
    made.start()
    try:
        await asyncio.to_thread(made.wait_serving)
        yield made
    finally:
        await asyncio.to_thread(made.stop)


async def until(policyd: Policyd, true: Any, seconds: float = 40.0) -> None:
    await asyncio.to_thread(policyd.wait, true, seconds)


def everything(namespace: str) -> dict[str, Any]:
    """A Server of all workloads of a namespace."""
    meta = {"name": "web", "namespace": namespace}
    return {**server(), "metadata": meta, "spec": {"podSelector": {}, "port": 80}}


def enforced(some: Mesh, namespace: str) -> str:
    return str(raw(some.api, namespace, "servers", "web").status.get("enforced"))


def message(some: Mesh, namespace: str) -> tuple[str, str]:
    found = raw(some.api, namespace, "servers", "web").condition("Enforced")
    return found["reason"], found["message"]


async def test_a_status_counts_workloads_whose_every_proxy_has_acknowledged(
    some: Mesh, namespace: str
) -> None:
    api = some.api
    api.apply(everything(namespace))
    first, second = (meshed(api, namespace, "one", f"one-{index}") for index in range(2))
    other = meshed(api, namespace, "two", "two-0")
    async with replica(some, "policyd-0") as policyd:
        await until(policyd, lambda: policyd.leads)
        await until(policyd, lambda: enforced(some, namespace) == "0/2")
        reason, text = message(some, namespace)
        assert reason == "NotConnected"
        assert f"{namespace}/one-0 isn't connected" in text
        async with connected(some, policyd, first), connected(some, policyd, other) as late:
            await until(policyd, lambda: enforced(some, namespace) == "1/2")
            assert message(some, namespace) == (
                "NotConnected",
                f"1 of 2 workloads; {namespace}/one-1 isn't connected",
            )
            async with connected(some, policyd, second):
                await until(policyd, lambda: enforced(some, namespace) == "2/2")
                assert message(some, namespace)[0] == "Enforced"
                late.acknowledges.clear()
                api.apply({**policy("readers"), "metadata": {"name": "readers", "namespace": namespace}})

                def readers() -> Any:
                    return raw(api, namespace, "authorizationpolicies", "readers").status.get("enforced")

                await until(policyd, lambda: readers() == "1/2")
                assert (
                    raw(api, namespace, "authorizationpolicies", "readers").condition("Enforced")["reason"]
                    == "Pending"
                )
                await until(policyd, lambda: enforced(some, namespace) == "1/2", LAG_SECONDS + 30)
                late.acknowledges.set()
                await until(policyd, lambda: (readers(), enforced(some, namespace)) == ("2/2", "2/2"))
        await until(policyd, lambda: enforced(some, namespace) == "0/2", LAG_SECONDS + 30)


async def test_two_replicas_know_together_what_each_heard_and_the_second_takes_over(
    some: Mesh, namespace: str
) -> None:
    api = some.api
    api.apply(everything(namespace))
    here, there = (meshed(api, namespace, "one", f"one-{index}") for index in range(2))
    async with replica(some, "policyd-0") as leader:
        await until(leader, lambda: leader.leads)
        async with (
            replica(some, "policyd-1") as second,
            connected(some, leader, here),
            connected(some, second, there),
        ):
            await until(leader, lambda: enforced(some, namespace) == "1/1", 60.0)
            assert not second.leads
            before = raw(api, namespace, "servers", "web").version
            writes = second.metric('policyd_status_writes_total{result="written"}')
            assert writes == 0
            await asyncio.to_thread(leader.kill)
            await until(second, lambda: second.leads, TAKEOVER_SECONDS)
            # What was so and still is isn't written again; that a proxy is lost is told a moment later.
            await until(second, lambda: message(some, namespace)[0] == "NotConnected", TAKEOVER_SECONDS)
            assert enforced(some, namespace) == "0/1"
            assert raw(api, namespace, "servers", "web").version != before
            async with connected(some, second, here):
                await until(second, lambda: enforced(some, namespace) == "1/1")


async def test_ct_07_a_leader_that_was_paused_finds_that_it_leads_no_more(some: Mesh, namespace: str) -> None:
    api = some.api
    async with replica(some, "policyd-0") as leader:
        await until(leader, lambda: leader.leads)
        async with replica(some, "policyd-1") as second:
            leader.send(signal.SIGSTOP)
            await until(second, lambda: second.leads, TAKEOVER_SECONDS)
            leader.send(signal.SIGCONT)
            await until(leader, lambda: "leads_no_more" in leader.log)
            assert not leader.leads
            api.apply({**server(), "metadata": {"name": "web", "namespace": namespace}})
            await until(second, lambda: bool(raw(api, namespace, "servers", "web").status), 60.0)
            assert second.metric('policyd_status_writes_total{result="written"}') >= 1
            await asyncio.to_thread(second.stop)
            await until(leader, lambda: leader.leads)
            lease = api.request("GET", "/apis/coordination.k8s.io/v1/namespaces/policyd/leases/policyd")
            assert lease["spec"]["holderIdentity"].startswith("policyd-0-")


def test_one_lease_and_no_more_are_made(api: ApiServer) -> None:
    with contextlib.suppress(Exception):
        objects.create_namespace(api, "policyd")
    found = api.request("GET", "/apis/coordination.k8s.io/v1/namespaces/policyd/leases")["items"]
    assert {each["metadata"]["name"] for each in found} <= {"policyd"}
