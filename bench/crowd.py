"""What a namespace waits for its own changes beside one that changes a thousand workloads at once (P-8)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import uvloop

from bench.filled import Filled, Object, filled, path_of
from bench.on_cluster import Proxies, control_plane
from bench.world import policy

CROWD = "crowd"
MANY = 1_000
CHANGES = 30
LEAST_SECONDS = 0.05
"""What any change may wait for others of its moment (design §8); a median below it is taken for it."""
MOST_SLOWER = 2.0
_APPLY = "application/apply-patch+yaml"


def run() -> list[dict[str, object]]:
    """Return one row."""
    return [uvloop.run(_measure())]


async def _measure() -> dict[str, object]:
    async with filled(1) as cluster:
        quiet = list(cluster.pods)
        await cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"name": CROWD}})
        account = f"/api/v1/namespaces/{CROWD}/serviceaccounts"
        await cluster.ask("POST", account, {"metadata": {"name": CROWD}})
        crowd = await cluster.create(_crowd())
        async with control_plane(cluster.api.kubeconfig) as plane:
            proxies = Proxies(plane)
            try:
                ours, theirs = await proxies.connect(quiet), await proxies.connect(crowd)
                return await _Compared(cluster, proxies, ours, theirs).row()
            finally:
                await proxies.close()


@dataclass
class _Compared:
    """`ours` are the proxies of one workload, `theirs` those of the crowd."""

    cluster: Filled
    proxies: Proxies
    ours: range
    theirs: range

    async def row(self) -> dict[str, object]:
        alone, beside, whole = [], [], []
        gc.collect()
        gc.freeze()  # the proxies' garbage isn't what is measured
        for number in range(CHANGES):
            alone.append(await self._ours(2 * number))
            before, began = dict(self.proxies.fleet.acked), perf_counter()
            await _apply(self.cluster, _server(number))
            beside.append(await self._ours(2 * number + 1))
            await self.proxies.told(self.theirs, before)
            whole.append(perf_counter() - began)
        slower = median(beside) / max(median(alone), LEAST_SECONDS)
        return {
            "crowd": f"a policy of {len(self.ours)} proxies, apply to last ack",
            "alone_p50_ms": round(median(alone) * 1e3),
            "alone_max_ms": round(max(alone) * 1e3),
            f"beside_{MANY}_p50_ms": round(median(beside) * 1e3),
            f"beside_{MANY}_max_ms": round(max(beside) * 1e3),
            f"those_{MANY}_p50_ms": round(median(whole) * 1e3),
            "slower": round(slower, 2),
            "": "reached" if slower <= MOST_SLOWER else "MISSED",
        }

    async def _ours(self, number: int) -> float:
        """How long a change of our policy took to the last acknowledgement."""
        before, began = dict(self.proxies.fleet.acked), perf_counter()
        pod = self.cluster.pods[0]
        changed = policy(pod.namespace, pod.account, 0)
        caller = {"kind": "ServiceAccount", "name": f"changed-{number}"}
        changed["spec"]["requiredAuthenticationRefs"] = [caller]
        await _apply(self.cluster, changed)
        await self.proxies.told(self.ours, before)
        return perf_counter() - began


async def _apply(cluster: Filled, document: Object) -> None:
    path = f"{path_of(document)}/{document['metadata']['name']}?fieldManager=bench&force=true"
    await cluster.ask("PATCH", path, document, _APPLY)


def _server(number: int) -> Object:
    """One that chooses every pod there, on another port each time."""
    return {
        "apiVersion": "policyd.dev/v1alpha1",
        "kind": "Server",
        "metadata": {"namespace": CROWD, "name": "all"},
        "spec": {"podSelector": {}, "port": 9000 + number},
    }


def _crowd() -> Iterator[Object]:
    """Pods of which each is a workload of its own, and of another shape."""
    for number in range(MANY):
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": CROWD,
                "name": f"c{number}",
                "uid": "",
                "labels": {"app": f"c{number}"},
            },
            "spec": {
                "serviceAccountName": CROWD,
                "containers": [{"name": "app", "ports": [{"containerPort": 8080, "name": "http"}]}],
            },
        }
