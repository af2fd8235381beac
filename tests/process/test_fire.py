"""Kills at random moments, under load: no request gets an answer that policy doesn't give (P-1, P-2).

A request may go unanswered while a process on its way is dead, and may be told that somebody is unavailable.
But what policy refuses is never let through, and what it allows is never refused by it: every proxy has kept
its table. `make soak` does the same for longer.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyd.up.process import Child

from . import quick
from .load import Tally, Way, ask, loading
from .mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

KILLS = int(os.environ.get("POLICYD_KILLS", "200"))
REQUESTS = int(os.environ.get("POLICYD_REQUESTS", "100000"))
SEED = int(os.environ.get("POLICYD_SEED", "1"))
PAUSE_SECONDS = (0.05, 0.6)
CONNECTIONS = 3
ASK_PAUSE_SECONDS = 0.004
"""After each answer: the processes that start again need the machine too."""
RECOVERY_SECONDS = 15.0
LONGEST_SECONDS = 120 + 1.5 * KILLS + REQUESTS / 300
"""Of the whole; what is in `make test` takes four minutes."""

WEBAPP = "books/webapp:80"
CHAIN = (
    ask("GET", "/books", 200),
    ask("GET", "/authors", 200),
    ask("DELETE", "/books/1", 403),
    ask("DELETE", "/books/2", 403),
    ask("GET", "/nowhere", 404),
)
CHAIN_PAUSE_SECONDS = 0.05
"""What goes through two applications and a database costs most of the time."""

# Whom a kill concerns most, and on which way that is seen; the others go on meanwhile.
SEEN_ON = {
    "quick-0": "mutual TLS to quick-0",
    "traffic-0": "outbound",
    "webapp-0": "chain",
    "books-0": "chain",
    "authors-0": "chain",
    "database-0": "chain",
    "policyd": "outbound",
    "identity": "outbound",
}


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one among them."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST)
    return manifests


async def _kill(child: Child) -> None:
    """Kill it wherever it is in its work; it is started again at once."""
    pid = child.pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    await child.stop()
    child.start()


async def _kill_all_over(mesh: Mesh, tally: Tally) -> dict[str, list[float]]:
    """Kill at random moments; by victim the milliseconds until the next right answer on its way."""
    moments, since = random.Random(SEED), datetime.now(UTC).isoformat()
    plane = mesh.up.control_plane
    victims = {
        name: plane.child(name) if name in {"policyd", "identity"} else mesh.pod(name).proxy
        for name in SEEN_ON
    }
    recoveries: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(KILLS):
        await asyncio.sleep(moments.uniform(*PAUSE_SECONDS))  # the moment is the point
        victim = moments.choice(list(victims))
        began = time.monotonic()
        await _kill(victims[victim])
        at = await tally.next_right(SEEN_ON[victim], RECOVERY_SECONDS)
        recoveries[victim].append((at - began) * 1000)
        assert not tally.wrong, await _explained(mesh, tally)
        assert not _strangers(mesh, since)
    return recoveries


def _strangers(mesh: Mesh, since: str) -> list[object]:
    """Peers that a proxy took for somebody else: to its application that looks like one that isn't there.

    Before `since` the run began: applications that call at once meet proxies without a table.
    """
    reasons = {"peer_rejected", "no_identity", "no_policy_loaded", "policy_stale"}
    last = mesh.up.kubelet.records.last(300)
    found = (each for each in last if each["direction"] == "outbound" and each["reason"] in reasons)
    return [each for each in found if each["time"] >= since]


async def _explained(mesh: Mesh, tally: Tally) -> list[object]:
    """The wrong answers, each with what the proxy wrote down about it."""
    ids = [
        found[1] if (found := re.search(r"x-policyd-decision: ([0-9a-f-]+)", one)) else ""
        for one in tally.wrong
    ]
    return [
        (one, await mesh.denial(each) if each else None) for one, each in zip(tally.wrong, ids, strict=True)
    ]


@pytest.mark.promise("P-1")
@pytest.mark.promise("P-2")
async def test_p_1_kills_at_random_moments_change_no_verdict(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = [quick.outbound(mesh), quick.direct(mesh), quick.plaintext(mesh)]
    chain = Way("chain", mesh.listener("traffic-0", WEBAPP), CHAIN)
    began = time.monotonic()
    async with (
        asyncio.timeout(LONGEST_SECONDS),
        loading(ways, CONNECTIONS, ASK_PAUSE_SECONDS) as tally,
        loading([chain], CONNECTIONS, CHAIN_PAUSE_SECONDS, tally),
    ):
        recoveries = await _kill_all_over(mesh, tally)
        await tally.reaches(REQUESTS)
    mesh.forget_records()
    assert not tally.wrong
    for way in (*ways, chain):
        assert tally.right[way.name] > REQUESTS // 100, tally.right
    for status in (200, 403, 404):
        assert tally.by_status[status] > REQUESTS // 50, tally.by_status
    told = _told(tally, recoveries, time.monotonic() - began)
    with capsys.disabled():
        print(told)  # noqa: T201 — how much of it there was


def _told(tally: Tally, recoveries: dict[str, list[float]], seconds: float) -> str:
    every = sorted(one for each in recoveries.values() for one in each)
    lines = [
        f"\n{len(every)} kills in {seconds:.0f} s; {tally.total} answers, none wrong;"
        f" {tally.unavailable} unavailable, {tally.unanswered} unanswered; right {dict(tally.right)}",
        f"until the next right answer: median {every[len(every) // 2]:.0f} ms, worst {every[-1]:.0f} ms",
    ]
    for victim, each in sorted(recoveries.items()):
        worst, median = max(each), sorted(each)[len(each) // 2]
        lines.append(f"  {victim:<11} {len(each):>3} kills, median {median:.0f} ms, worst {worst:.0f} ms")
    return "\n".join(lines)
