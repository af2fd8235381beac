"""Disks that are full or can't be written, under a proxy and under policyd: verdicts stay, losses count.

Each process gets a disk of its own, a small one in memory that only it sees (A.11: AU-03, AU-04).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policyd.up.process import Child
from policyd.up.up_socket import ask_socket

from . import quick
from .instead import fill, instead, on_a_read_only_disk, on_a_small_disk
from .load import Way, ask, loading
from .mesh import WAIT_SECONDS, Mesh, http
from .test_thousand_edits import polling

pytestmark = pytest.mark.asyncio(loop_scope="module")

DENIED = (ask("GET", "/marks/1", 403),)
ALLOWED = (ask("GET", "/open/1", 200),)
MORE_THAN_MEMORY = 9_000
"""Denials: the spool keeps 8,192 of them, or 4 MiB."""
SETTLED_SECONDS = 60.0
STOP = """\
---
apiVersion: policyd.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: quick-stop, namespace: books}
spec:
  action: Deny
  targetRef: {group: policyd.dev, kind: Server, name: quick-http}
  requiredAuthenticationRefs: []
"""


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one among them."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST)
    return manifests


@asynccontextmanager
async def _another_proxy(mesh: Mesh, words: list[str]) -> AsyncIterator[Child]:
    replica = mesh.pod("quick-0")
    async with instead(replica.proxy, words) as other:
        await _until(mesh, "/open/1", 200)
        yield other
    await _until(mesh, "/open/1", 200)
    await mesh.up.all_ready(30)


async def _until(mesh: Mesh, path: str, status: int) -> float:
    """Wait until a stranger's request is answered so; the seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(WAIT_SECONDS), polling(mesh.address("quick-0", quick.PORT)) as poll:
        while True:
            if await poll.status(path) == status:
                return time.monotonic() - began
            await asyncio.sleep(0.005)


async def _metrics(mesh: Mesh, name: str) -> float:
    """The sum of a metric of the proxy, over all its labels."""
    replica = mesh.pod("quick-0")
    text = (await http((replica.addresses.application, 4191), "GET", "/metrics")).body.decode()
    return sum(float(found) for found in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@dataclass(frozen=True)
class Kept:
    """What policyd's store has of the pod: denials by id, and how many it was told are lost."""

    denials: int
    lost: int


def _kept(mesh: Mesh) -> Kept:
    file = mesh.up.run.path / "state" / "policyd" / "audit" / "audit.sqlite"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        count = "SELECT count(DISTINCT id) FROM records WHERE pod = 'quick-0' AND event = 'denial'"
        lost = "SELECT coalesce(sum(count), 0) FROM records WHERE pod = 'quick-0' AND event = 'lost'"
        return Kept(store.execute(count).fetchone()[0], store.execute(lost).fetchone()[0])


async def _settled(mesh: Mesh) -> Kept:
    """What is kept when nothing waits any more."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while await _metrics(mesh, "policyd_audit_spooled") or not await _metrics(
            mesh, "policyd_audit_stream_connected"
        ):
            await asyncio.sleep(0.1)  # a metric has no event
    return _kept(mesh)


async def _status(mesh: Mesh) -> dict[str, Any]:
    return await ask_socket(mesh.up.control_plane.status_socket, {"ask": "status"})


@pytest.mark.promise("P-12")
async def test_au_03_04_a_full_disk_and_a_sink_that_takes_nothing_lose_what_they_say(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    """policyd is frozen with its streams open, the disk is full, and there are more denials than room."""
    replica = mesh.pod("quick-0")
    before = await _settled(mesh)
    denying = Way("denied", mesh.address("quick-0", quick.PORT), DENIED)
    allowing = quick.direct(mesh, asks=ALLOWED)
    async with _another_proxy(mesh, on_a_small_disk(replica.proxy, replica.state, "1m")) as proxy:
        fill(proxy, replica.state)
        policyd = mesh.up.control_plane.child("policyd")
        assert policyd.pid is not None
        os.kill(policyd.pid, signal.SIGSTOP)
        try:
            async with (
                asyncio.timeout(120),
                loading([denying], 8) as denied,
                loading([allowing], 1, 0.005) as allowed,
            ):
                await denied.reaches(MORE_THAN_MEMORY)
        finally:
            os.kill(policyd.pid, signal.SIGCONT)
        assert not denied.wrong
        assert not [*allowed.wrong, *allowed.failed]
        assert allowed.right[allowing.name] > 10
        after = await _settled(mesh)
        told, counted = after.lost - before.lost, await _metrics(mesh, "policyd_audit_lost_total")
        made = denied.by_status[403]
        with capsys.disabled():
            print(f"\n{made} denials: {after.denials - before.denials} kept, {told} declared lost")  # noqa: T201
        assert told > 0
        assert told == counted
        # Answers that came after the load had ended aren't in its count.
        assert 0 <= after.denials - before.denials + told - made <= 8


@pytest.mark.promise("P-3")
async def test_au_03_on_a_full_disk_tables_are_taken_up_and_none_older_is_left(
    mesh: Mesh, manifests: Path
) -> None:
    """What can't be kept is enforced; a proxy that then starts without policyd enforces nothing older."""
    replica, file = mesh.pod("quick-0"), manifests / "quick.yaml"
    words = on_a_small_disk(replica.proxy, replica.state, "1m")
    words[words.index("--config") - 1 :] = [
        "sh", "-c", f'while true; do "{replica.proxy.command.words[0]}" "$@"; sleep 0.1; done', "proxy",
        *replica.proxy.command.words[1:],
    ]  # fmt: skip
    async with _another_proxy(mesh, words) as shell:
        filler = fill(shell, replica.state)
        try:
            file.write_text(quick.MANIFEST + STOP)
            assert await _until(mesh, "/open/1", 403) < 1.0
            policyd = mesh.up.control_plane.child("policyd")
            await policyd.stop()
            try:
                _kill_proxy_of(shell)
                await _until(mesh, "/open/1", 503)
            finally:
                filler.unlink()
                policyd.start()
            await _until(mesh, "/open/1", 403)
        finally:
            file.write_text(quick.MANIFEST)


def _kill_proxy_of(shell: Child) -> None:
    """Kill the proxy that a shell runs."""
    children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    (pid,) = [int(each) for each in children]
    os.kill(pid, signal.SIGKILL)


async def test_au_03_a_folder_that_can_not_be_written_changes_no_verdict(mesh: Mesh) -> None:
    """It starts with what was kept there, enforces, and delivers its denials."""
    replica = mesh.pod("quick-0")
    before = await _settled(mesh)
    async with _another_proxy(mesh, on_a_read_only_disk(replica.proxy, replica.state)):
        answer = await http(mesh.address("quick-0", quick.PORT), "GET", "/marks/1")
        assert answer.status == 403
        direct = quick.direct(mesh)
        async with loading([direct], 2, 0.005) as tally:
            await tally.reaches(200)
        assert not [*tally.wrong, *tally.failed]
        after = await _settled(mesh)
        assert after.denials > before.denials
        assert after.lost == before.lost


async def test_au_03_policyd_on_a_full_disk_acknowledges_nothing_and_revokes_all_the_same(
    mesh: Mesh, manifests: Path
) -> None:
    policyd = mesh.up.control_plane.child("policyd")
    state = mesh.up.run.path / "state" / "policyd"
    file = manifests / "quick.yaml"
    mesh.forget_records()
    async with instead(policyd, on_a_small_disk(policyd, state, "24m")) as other:
        await mesh.service_record("policyd_ready")
        await mesh.up.all_ready(30)
        filler = fill(other, state)
        try:
            file.write_text(quick.MANIFEST + STOP)
            assert await _until(mesh, "/open/1", 403) < 1.0
            async with asyncio.timeout(WAIT_SECONDS):
                while not (await _status(mesh))["audit"]["problem"]:
                    await asyncio.sleep(0.05)
            assert await _metrics(mesh, "policyd_audit_spooled") > 0
        finally:
            filler.unlink()
            file.write_text(quick.MANIFEST)
        await _until(mesh, "/open/1", 200)
        async with asyncio.timeout(SETTLED_SECONDS):
            while await _metrics(mesh, "policyd_audit_spooled"):
                await asyncio.sleep(0.1)
        assert (await _status(mesh))["audit"]["problem"] is None
    mesh.forget_records()
