"""P-7: beside an attacker with a core of its own good traffic is answered, and memory stays.

Hard are counts and memory. How much slower good requests became is printed, not tested: it is the machine's.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.process.mesh import WAIT_SECONDS, Mesh

from .at_random import Sent, Sent2
from .attacker import FLOODS, SLOW
from .reader import PORT, way
from .senders import Http1, send2
from .tools import tell

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.promise("P-7")]

ATTACKER = Path(__file__).parent / "attacker.py"
SECONDS = 1.5
RECOVERY_SECONDS = 2.0
MOST_KIB = 32 * 1024
GOOD_CLIENTS = 4
FEWEST_GOOD = 20
OF_HTTP1 = frozenset(SLOW) - {"streams that nobody reads"} | {"heads that are too long"}
GOOD = Sent(b"GET /steady HTTP/1.1\r\nHost: reader.test\r\n\r\n", b"", b"", broken=False)
GOOD2 = Sent2(
    ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"reader.test"), (b":path", b"/steady")),
    (),
    (),
)


def resident(mesh: Mesh) -> int:
    """KiB of memory that the reader's proxy has."""
    status = Path(f"/proc/{mesh.pod('reader-0').proxy.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


class Good:
    """Clients that behave, over mutual TLS, and how long each answer took."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.seconds: list[float] = []
        self.failed: list[object] = []
        self.peak = 0

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Ask all the time, as long as this lasts."""
        over = asyncio.Event()
        clients = [asyncio.create_task(self._ask_until(over)) for _ in range(GOOD_CLIENTS)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*clients)

    async def _ask_until(self, over: asyncio.Event) -> None:
        with closing(Http1(way(self._mesh, "mutual TLS"))) as sender:
            while not over.is_set():
                began = time.monotonic()
                answer = await sender.send(GOOD)
                self.seconds.append(time.monotonic() - began)
                if answer is None or answer.first != (b"200",):
                    self.failed.append(answer)
                self.peak = max(self.peak, resident(self._mesh))
                await asyncio.sleep(0.005)  # so that its own work isn't the load

    def worst(self) -> float:
        """The 99th percentile, in milliseconds."""
        return 1000 * statistics.quantiles(self.seconds, n=100)[98]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm(mesh: Mesh) -> tuple[int, float]:
    """Memory, once everything was used, and the 99th percentile, without anybody else."""
    good = Good(mesh)
    async with good.going_on():
        await asyncio.sleep(SECONDS)  # it is a measurement
    assert not good.failed
    await answered_again(mesh)
    return resident(mesh), good.worst()


async def attack(kind: str, host: str, port: int) -> dict[str, Any]:
    """Attack for some seconds; what it came to."""
    words = [sys.executable, str(ATTACKER), kind, host, str(port), str(SECONDS)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), 4 * WAIT_SECONDS)
    assert process.returncode == 0
    told: dict[str, Any] = json.loads(said)
    return told


async def answered_again(mesh: Mesh) -> float:
    """Seconds until new connections, of both versions, are answered."""
    began = time.monotonic()
    with closing(Http1(way(mesh, "plaintext"))) as sender:
        answers = [await sender.send(GOOD)]
    answers.append(await send2(way(mesh, "plaintext", http2_application=True), GOOD2))
    assert [answer and answer.first for answer in answers] == [(b"200",)] * 2
    return time.monotonic() - began


@pytest.mark.parametrize("kind", [*FLOODS, *SLOW])
async def test_p_7_good_traffic_goes_on_beside(mesh: Mesh, calm: tuple[int, float], kind: str) -> None:
    host, _ = mesh.address("reader-0", PORT)
    before, calm_worst = calm
    good = Good(mesh)
    async with good.going_on():
        told = await attack(kind, host, PORT if kind in OF_HTTP1 else PORT + 1)
    again = await answered_again(mesh)
    grown = good.peak - before
    did = f"{told['connections']} connections, {told['ended']} ended, {told['sent'] >> 10} KiB sent"
    asked = f"{len(good.seconds)} good requests, p99 {good.worst():.1f} ms (calm {calm_worst:.1f})"
    tell(f"flood of {kind}: {did}; {asked}; {grown} KiB more memory; well after {again:.2f} s")
    assert not good.failed, good.failed
    assert len(good.seconds) >= FEWEST_GOOD
    assert grown <= MOST_KIB
    assert again <= RECOVERY_SECONDS
    assert told["connections"] > 0
    if kind in FLOODS:
        assert told["ended"] > 0, "the proxy put up with all of it"
