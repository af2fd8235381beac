"""A proxy that is called from before it listens allows nothing until it has verified a table (promise P-2).

Two hundred starts: with nothing kept and nobody to ask, with nothing kept and a policyd, with a kept table.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policyd.up.replica import Replica

from . import quick
from .load import Ask, Tally, Way, loading
from .mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

STARTS = int(os.environ.get("POLICYD_STARTS", "200"))
CONNECTIONS = 8
"""Of each kind: plaintext and mutual TLS."""
ANSWERS = 60
REFUSED_PAUSE_SECONDS = 0.001
START_SECONDS = 15.0
NO_TABLE = 503


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one among them."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST)
    return manifests


@dataclass
class Start(Tally):
    """Answers to what was asked while a proxy started. `table`: none, later, or kept."""

    table: str = "none"
    seen: Counter[tuple[int, int]] = field(default_factory=Counter)
    first: float = 0.0

    def note(self, way: Way, asked: Ask, status: int, answer: bytes) -> None:
        self.by_status[status] += 1
        self.first = self.first or time.monotonic()
        expected = {"none": {NO_TABLE}, "later": {NO_TABLE, asked.right}, "kept": {asked.right}}[self.table]
        if status not in expected:
            self.wrong.append(f"{self.table}, {way.name}: {asked.name}: {answer.decode('latin-1')!r}")
        self.seen[asked.right, status] += 1

    @property
    def is_over(self) -> bool:
        """Whether enough was asked; where a table comes, until it has come."""
        return self.total >= ANSWERS and (self.table == "none" or self.by_status[200] > 0)


async def _start(mesh: Mesh, replica: Replica, table: str) -> tuple[Start, float]:
    """Kill the proxy, start it while it is called; what was answered, and the seconds until then."""
    proxy = replica.proxy
    if proxy.pid is not None:
        os.kill(proxy.pid, signal.SIGKILL)
    await proxy.stop()
    if table != "kept":
        for name in ("assignment", "confirmation"):
            (replica.state / name).unlink(missing_ok=True)
    seen = Start(table=table)
    ways = [quick.plaintext(mesh), quick.direct(mesh)]
    async with asyncio.timeout(START_SECONDS), loading(ways, CONNECTIONS, 0, seen, REFUSED_PAUSE_SECONDS):
        began = time.monotonic()
        proxy.start()
        while not seen.is_over:
            await asyncio.sleep(0.002)  # a count has no event of its own
    return seen, seen.first - began


async def _starts(mesh: Mesh, table: str, times: int) -> list[tuple[Start, float]]:
    replica, found = mesh.pod("quick-0"), []
    for _ in range(times):
        found.append(await _start(mesh, replica, table))
        assert not found[-1][0].wrong
    return found


@pytest.mark.promise("P-2")
async def test_p_2_who_is_called_while_it_starts_allows_nothing_without_a_table(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    policyd = mesh.up.control_plane.child("policyd")
    later = await _starts(mesh, "later", STARTS * 3 // 10)
    kept = await _starts(mesh, "kept", STARTS // 10)
    await policyd.stop()
    try:
        kept += await _starts(mesh, "kept", STARTS // 5)
        none = await _starts(mesh, "none", STARTS * 2 // 5)
    finally:
        mesh.forget_records()
        policyd.start()
        await mesh.service_record("policyd_ready")
    with capsys.disabled():
        for table, starts in (("none", none), ("later", later), ("kept", kept)):
            statuses = sum((seen.by_status for seen, _ in starts), Counter[int]())
            first = sorted(took for _, took in starts)
            told = f"first answer after {first[len(first) // 2] * 1000:.0f} ms, {dict(statuses)}"
            print(f"\n{len(starts)} starts, table {table}: {told}", end="")  # noqa: T201 — how much there was
        print()  # noqa: T201
    without = sum((seen.seen for seen, _ in later), Counter[tuple[int, int]]())
    assert without[200, NO_TABLE], "no request came before a table: the race wasn't run"
    assert all(seen.total for seen, _ in (*none, *later, *kept))
