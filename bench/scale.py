"""policyd on a real API server with ten thousand pods and ten thousand policies, and up to as many proxies.

The API server, policyd and all simulated proxies share the machine's cores. What is reached is said beside
what is to be reached; nothing here is a test.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

import click
import uvloop

from bench.filled import Filled, filled
from bench.fleet import cpu_seconds, most_resident, resident
from bench.on_cluster import OnCluster, Proxies, control_plane
from bench.world import PODS_EACH, policy
from policyd.up.process import Child

WORKLOADS = int(os.environ.get("SCALE_WORKLOADS", "1000"))
"""With ten pods and ten policies each. Fewer, to see that it works."""
CONNECTED = 1_000
CHANGES = 30
STEADY_SECONDS = 10.0
"""What is resident is looked at this long after the last proxy came."""
FIRST_SECONDS, RESIDENT_MIB, ACK_SECONDS, BACK_SECONDS, GROWTH = 10.0, 400, 1.0, 60.0, 1.5
"""What is to be reached."""

Row = dict[str, object]


def run() -> list[Row]:
    """Return a row for each figure: what it is, what was reached, what was to be."""
    return uvloop.run(_measure())


async def _measure() -> list[Row]:
    began = perf_counter()
    async with filled(WORKLOADS) as cluster:
        rows = [_row("cluster filled, pods", len(cluster.pods), None, perf_counter() - began)]
        async with control_plane(cluster.api.kubeconfig) as plane:
            rows += await _Scale(cluster, plane).rows()
        return rows


class _Scale:
    """One cluster, one policyd, and more and more proxies."""

    def __init__(self, cluster: Filled, plane: OnCluster) -> None:
        self._cluster = cluster
        self._plane = plane
        self._proxies = Proxies(plane)
        self._fleet = self._proxies.fleet

    async def rows(self) -> list[Row]:
        try:
            return [
                *await self._first_tables(),
                *await self._changes(),
                *await self._return_of_all(),
            ]
        finally:
            await self._proxies.close()

    @property
    def _policyd(self) -> Child:
        return self._plane.child("policyd")

    @property
    def _pid(self) -> int:
        return self._policyd.pid or 0

    async def _restart(self) -> float:
        """Begin policyd again; return when, in seconds of the clock that durations are measured with."""
        await self._policyd.stop()
        self._fleet.acked.clear()
        began = perf_counter()
        self._policyd.start()
        return began

    async def _first_tables(self) -> list[Row]:
        await self._proxies.connect(self._cluster.pods[:1])
        began = await self._restart()
        await self._fleet.until(1, {})
        first = perf_counter() - began
        return [
            _row("start to the first table, s", first, FIRST_SECONDS),
            _row("policyd with no proxy, MiB", resident(self._pid) / 1024, RESIDENT_MIB),
        ]

    async def _changes(self) -> list[Row]:
        await self._proxies.connect(self._cluster.pods[1:CONNECTED])
        connected = len(self._proxies)
        everyone, some = range(connected), range(PODS_EACH)
        rows = []
        for what, proxies, change in (
            (f"a MeshDefaults item, {connected:,} proxies' tables", everyone, self._deny_everywhere),
            ("a policy, 10 proxies' tables", some, self._grant),
        ):
            times = await self._times(change, proxies)
            rows += [
                _row(f"{what}: apply to last ack, p50, s", times[len(times) // 2], None),
                _row(f"{what}: apply to last ack, p99, s", times[-1], ACK_SECONDS),
            ]
        rows.append(
            _row(f"policyd with {connected:,} proxies, MiB", resident(self._pid) / 1024, RESIDENT_MIB)
        )
        return rows

    async def _times(self, change: Callable[[int], Awaitable[object]], proxies: Sequence[int]) -> list[float]:
        """How long changes took to the last acknowledgement, from before the API server is asked; sorted."""
        times = []
        gc.collect()
        gc.freeze()  # the proxies' garbage isn't what is measured
        for number in range(CHANGES):
            before = dict(self._fleet.acked)
            began = perf_counter()
            await change(number)
            await self._proxies.told(proxies, before)
            times.append(perf_counter() - began)
        return sorted(times)

    async def _deny_everywhere(self, number: int) -> None:
        item = {"name": "closed", "networks": [{"cidr": f"203.0.113.{number}/32"}]}
        body = {"apiVersion": "policyd.dev/v1alpha1", "kind": "MeshDefaults", "metadata": {"name": "default"}}
        path = "/apis/policyd.dev/v1alpha1/meshdefaults/default?fieldManager=bench&force=true"
        await self._cluster.ask("PATCH", path, {**body, "spec": {"deny": [item]}}, _APPLY)

    async def _grant(self, number: int) -> None:
        """Change a policy of the workload whose pods were the first to connect."""
        pod = self._cluster.pods[0]
        changed = policy(pod.namespace, pod.account, 0)
        changed["spec"]["requiredAuthenticationRefs"] = [
            {"kind": "ServiceAccount", "name": f"changed-{number}"}
        ]
        path = f"/apis/policyd.dev/v1alpha1/namespaces/{pod.namespace}/authorizationpolicies/{pod.account}-0"
        await self._cluster.ask("PATCH", f"{path}?fieldManager=bench&force=true", changed, _APPLY)

    async def _return_of_all(self) -> list[Row]:
        proxies, connected = len(self._cluster.pods), len(self._proxies)
        began = perf_counter()
        await self._proxies.connect(self._cluster.pods[connected:])
        connecting = perf_counter() - began
        await asyncio.sleep(STEADY_SECONDS)
        steady = resident(self._pid) / 1024
        began = await self._restart()
        await self._fleet.until(1, {})
        first = perf_counter() - began
        await self._fleet.until(proxies, {})
        back, most = perf_counter() - began, most_resident(self._pid) / 1024
        await asyncio.sleep(STEADY_SECONDS)
        return [
            _row(f"{proxies - connected:,} more connect, s", connecting, None),
            _row(f"policyd with {proxies:,} proxies, steady, MiB", steady, None),
            _row("policyd begins again: the first is back, s", first, None),
            _row(f"all {proxies:,} are back, s", back, BACK_SECONDS),
            _row("the most memory meanwhile, of steady", most / steady, GROWTH),
            _row("policyd's CPU until then, s", cpu_seconds(self._pid), None),
            _row("steady again, MiB", resident(self._pid) / 1024, None),
        ]


_APPLY = "application/apply-patch+yaml"


def _row(what: str, reached: float, wanted: float | None, seconds: float | None = None) -> Row:
    verdict = "" if wanted is None else "reached" if reached <= wanted else "MISSED"
    click.echo(f"  {what}: {reached:.2f}", err=True)  # at once: the next may fail
    told = f"in {seconds:.0f} s" if seconds is not None else verdict
    return {"scale": what, "figure": round(reached, 2), "at most": "" if wanted is None else wanted, "": told}
