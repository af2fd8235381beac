"""Rolling restarts under load: replicas one after the other, policyd, identity; no request fails (P-11)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from policyd.up.process import GRACE_SECONDS, Child

from . import quick
from .load import Tally, Way, ask, loading
from .mesh import NOTHING, WAIT_SECONDS, Mesh, http

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("P-11")]

REPLICAS = ("quick-0", "quick-1", "quick-2")
ROUNDS = 2
CONNECTIONS = 8
ASK_PAUSE_SECONDS = 0.004
BETWEEN = 200
"""Answers between two restarts."""
ALLOWED = tuple(each for each in quick.FRIENDS if each.right == 200)


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with three quick ones among them."""
    (manifests / "quick.yaml").write_text(_replicas(3))
    return manifests


def _replicas(count: int) -> str:
    return quick.MANIFEST.replace("replicas: 1", f"replicas: {count}")


def _ways(mesh: Mesh) -> list[Way]:
    chain = Way("chain", mesh.listener("traffic-0", "books/webapp:80"), (ask("GET", "/books", 200),))
    return [quick.outbound(mesh), chain]


async def _drained(child: Child) -> float:
    """Stop a process politely; the seconds that it took."""
    began = time.monotonic()
    await child.stop()
    return time.monotonic() - began


async def _listens(address: tuple[str, int]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (await http(address, "GET", "/open/1")) == NOTHING:
            await asyncio.sleep(0.01)  # a listener's start has no event of its own


async def _served(tally: Tally, pods: Iterable[str]) -> None:
    """Wait for some answers more; what has failed until now is nothing."""
    await tally.reaches(tally.total + BETWEEN)
    assert not [*tally.wrong, *tally.failed], list(pods)


async def test_p_11_replicas_restart_one_after_the_other(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their proxies get SIGTERM, finish what they have begun, and come back with what they kept."""
    took: list[float] = []
    async with asyncio.timeout(180), loading(_ways(mesh), CONNECTIONS, ASK_PAUSE_SECONDS) as tally:
        for pod in REPLICAS * ROUNDS:
            proxy = mesh.pod(pod).proxy
            took.append(await _drained(proxy))
            await _served(tally, [pod])
            proxy.start()
            await _listens(mesh.address(pod, quick.PORT))
            await mesh.up.all_ready(30)
            await _served(tally, [pod])
    with capsys.disabled():
        print(f"\n{len(took)} replicas drained in {max(took):.1f} s at most; {tally.total} answers")  # noqa: T201
    assert max(took) < GRACE_SECONDS, "it was killed, not drained"


async def test_p_11_policyd_and_identity_restart(mesh: Mesh) -> None:
    plane = mesh.up.control_plane
    async with asyncio.timeout(180), loading(_ways(mesh), CONNECTIONS, ASK_PAUSE_SECONDS) as tally:
        for name in ("policyd", "identity") * ROUNDS:
            child = plane.child(name)
            assert await _drained(child) < GRACE_SECONDS
            await _served(tally, [name])
            mesh.forget_records()
            child.start()
            await mesh.service_record(f"{name}_ready")
            await _served(tally, [name])
        await mesh.up.all_ready(60)


async def test_p_11_replicas_go_and_come(mesh: Mesh, manifests: Path) -> None:
    """Whole pods: who is told of an end goes on to serve until others know of it."""
    names = {replica.name for replica in mesh.up.kubelet.replicas.values()}
    file = manifests / "quick.yaml"
    async with asyncio.timeout(180), loading(_ways(mesh), CONNECTIONS, ASK_PAUSE_SECONDS) as tally:
        for count in (2, 1, 3):
            file.write_text(_replicas(count))
            await mesh.pods_are(names - set(REPLICAS[count:]))
            await _served(tally, [f"{count} replicas"])
