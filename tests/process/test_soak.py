"""Memory, descriptors and threads of every process stay where they are while it works (promise P-13).

`POLICYD_SOAK_MINUTES` says for how long; `make soak` takes half an hour, `make test` less than one minute, in
which only a fast leak can be seen.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest

from . import quick
from .load import Way, ask, loading
from .mesh import Mesh
from .test_full_disks import STOP

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINUTES = float(os.environ.get("POLICYD_SOAK_MINUTES", "0.5"))
WARM_UP = 0.35
"""Of the time: caches fill, the allocator finds its size."""
EDIT_SECONDS = 0.5
ASK_PAUSE_SECONDS = 0.004
SAMPLES = 240
LONG_MINUTES = 20
"""From here on slopes say something; before, only what was gained in all."""
MOST_SLOPE_MIB = {"policyd-proxy": 1.0, "python": 8.0}
"""An hour. The proxy's is P-13's; Python's allocator gives back less than it takes."""
MOST_GAIN_MIB = {"policyd-proxy": 3.0, "python": 12.0}
MOST_MORE_DESCRIPTORS = 8
"""Connections that are open at the one moment and not at the other."""
REPORT = Path(__file__).parents[2] / "build" / "soak.md"

ELSEWHERE = STOP.replace("  action: Deny\n", "").replace("[]\n", "[{kind: ServiceAccount, name: nobody}]\n")
CHAIN = (
    ask("GET", "/books", 200),
    ask("DELETE", "/books/1", 403),
    ask("GET", "/nowhere", 404),
)


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one among them."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST)
    return manifests


@dataclass
class Watched:
    """A process over time: seconds, RSS in MiB, descriptors, threads."""

    name: str
    program: str
    pid: int
    samples: list[tuple[float, float, int, int]] = field(default_factory=list)

    def sample(self, at: float) -> None:
        folder = Path("/proc") / str(self.pid)
        status = (folder / "status").read_text()
        rss, threads = (
            int(re.findall(rf"^{name}:\s+(\d+)", status, re.M)[0]) for name in ("VmRSS", "Threads")
        )
        self.samples.append((at, rss / 1024, len(list((folder / "fd").iterdir())), threads))

    def slope(self) -> float:
        """MiB an hour: the median of the slopes between any two samples (Theil–Sen): peaks do not count."""
        pairs = itertools.combinations([(at, rss) for at, rss, _, _ in self.samples], 2)
        return median((later[1] - sooner[1]) / (later[0] - sooner[0]) for sooner, later in pairs) * 3600

    def gains(self) -> tuple[float, int, int]:
        """From the first third to the last: RSS (by the median), descriptors and threads (by the most)."""
        third = max(1, len(self.samples) // 3)
        first, last = self.samples[:third], self.samples[-third:]
        rss = median(each[1] for each in last) - median(each[1] for each in first)
        return (
            rss,
            max(each[2] for each in last) - max(each[2] for each in first),
            max(each[3] for each in last) - max(each[3] for each in first),
        )

    def problems(self) -> list[str]:
        rss, descriptors, threads = self.gains()
        found = []
        if rss > MOST_GAIN_MIB[self.program]:
            found.append(f"{self.name}: {rss:.1f} MiB more")
        if MINUTES >= LONG_MINUTES and self.slope() > MOST_SLOPE_MIB[self.program]:
            found.append(f"{self.name}: {self.slope():.2f} MiB an hour")
        if descriptors > MOST_MORE_DESCRIPTORS:
            found.append(f"{self.name}: {descriptors} descriptors more")
        if threads > 1:
            found.append(f"{self.name}: {threads} threads more")
        return found


def _watched(mesh: Mesh) -> list[Watched]:
    plane, replicas = mesh.up.control_plane, mesh.up.kubelet.replicas.values()
    return [
        *(Watched(name, "python", plane.child(name).pid or 0) for name in ("policyd", "identity")),
        *(Watched(replica.name, "policyd-proxy", replica.proxy.pid or 0) for replica in replicas),
    ]


async def _edit(file: Path) -> None:
    """Deny, and no longer: always the same two tables."""
    while True:
        for text in (quick.MANIFEST + ELSEWHERE, quick.MANIFEST):
            new = file.with_suffix(".new")
            new.write_text(text)
            new.replace(file)
            await asyncio.sleep(EDIT_SECONDS)  # a pace, nothing is waited for


async def _watch(watched: list[Watched], seconds: float) -> None:
    began = time.monotonic()
    await asyncio.sleep(seconds * WARM_UP)
    pause = seconds * (1 - WARM_UP) / SAMPLES
    while (at := time.monotonic() - began) < seconds:
        for each in watched:
            each.sample(at)
        await asyncio.sleep(pause)


@pytest.mark.promise("P-13")
async def test_p_13_memory_descriptors_and_threads_stay_where_they_are(
    mesh: Mesh, manifests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = Way("chain", mesh.listener("traffic-0", "books/webapp:80"), CHAIN)
    ways = [quick.outbound(mesh), quick.direct(mesh), quick.plaintext(mesh)]
    watched = _watched(mesh)
    async with (
        asyncio.timeout(MINUTES * 60 + 60),
        loading(ways, 3, ASK_PAUSE_SECONDS) as tally,
        loading([chain], 2, 0.05, tally),
    ):
        editing = asyncio.create_task(_edit(manifests / "quick.yaml"))
        try:
            await _watch(watched, MINUTES * 60)
        finally:
            editing.cancel()
            await asyncio.gather(editing, return_exceptions=True)
    text = _report(watched, tally.total)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text)
    with capsys.disabled():
        print(f"\n{text}")  # noqa: T201 — what was seen
    assert {each.pid for each in watched} == {each.pid for each in _watched(mesh)}, "one has restarted"
    assert not tally.wrong
    assert not [problem for each in watched for problem in each.problems()]


def _report(watched: list[Watched], answers: int) -> str:
    lines = [
        f"# Soak of {MINUTES:g} minutes, {answers} answers",
        "",
        "| process | RSS, MiB | more | MiB an hour | descriptors | threads |",
        "|---|---|---|---|---|---|",
    ]
    for each in sorted(watched, key=lambda each: each.name):
        rss, descriptors, threads = each.gains()
        last = each.samples[-1]
        lines.append(
            f"| {each.name} | {last[1]:.1f} | {rss:+.1f} | {each.slope():+.1f}"
            f" | {last[2]} ({descriptors:+d}) | {last[3]} ({threads:+d}) |"
        )
    return "\n".join(lines) + "\n"
