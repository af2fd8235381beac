"""Good requests and bad ones through proxies, while something of the control plane goes away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.figures import figures
from tests.cluster.manifests import HTTP
from tests.cluster.policy_cases import HOST
from tests.cluster.report import note

URL = f"http://{HOST}:{HTTP}/load"
PROXYS_PORT = 4191
AFTERWARDS_SECONDS = 2.0
CONNECTED_SECONDS = 45.0
"""A proxy that has tried in vain for a while tries again every 15 s at least (limits.rs: BACKOFF_STREAM)."""
LEAST_ANSWERS = 100
MOST_TOLD = 3
Object = dict[str, Any]


@contextlib.contextmanager
def under_load(cluster: Cluster, what: str) -> Iterator[None]:
    """Good requests and bad ones meanwhile, on kept connections and new ones: each is answered rightly."""
    cluster.node.wait("all proxies are connected to policyd", lambda: connected(cluster), CONNECTED_SECONDS)
    web, bot = cluster.agent("shop", "web"), cluster.agent("shop", "bot")
    began = time.monotonic()
    with (
        web.load("kept", URL) as kept,
        web.load("fresh", URL, fresh=True, connections=1, pause=0.03) as fresh,
        bot.load("bad", URL, expected=403, connections=1, pause=0.02) as bad,
    ):
        yield
        # What was under way when it ended is heard of, too.
        let_pass(AFTERWARDS_SECONDS)
    counts = {name: told["statuses"] for name, told in (("kept", kept), ("fresh", fresh), ("bad", bad))}
    note(f"{what}: {counts} in {time.monotonic() - began:.0f} s")
    for told, right in ((kept, "200"), (fresh, "200"), (bad, "403")):
        assert set(told["statuses"]) == {right}, _explained(cluster, told["faults"])
    assert kept["statuses"]["200"] >= LEAST_ANSWERS


def connected(cluster: Cluster) -> bool:
    """Whether every proxy of the shop follows policyd: whoever doesn't yet, knows of no pod that goes."""
    return all(
        figures(pod, PROXYS_PORT).get("policyd_policy_stream_connected") == 1.0
        for pod in cluster.pods("shop")
    )


def _explained(cluster: Cluster, faults: list[Object]) -> str:
    """Return what proxies recorded of requests that were answered otherwise than they should be."""
    known = {each["id"]: each for app in ("web", "bot", "server") for each in cluster.records("shop", app)}
    lines = [f"{fault} recorded as {known.get(fault.get('decision', ''))}" for fault in faults[:MOST_TOLD]]
    for app in ("web", "server"):
        for pod in cluster.pods("shop", app):
            name = pod["metadata"]["name"]
            log = cluster.logs("shop", name, "policyd-proxy").splitlines()
            lines += [f"{name}: {line}" for line in log if '"level":"WARN"' in line][-MOST_TOLD:]
    return "\n".join(["", *lines])


def let_pass(seconds: float) -> None:
    time.sleep(seconds)  # load that goes on for a while, no synchronisation
