"""Clocks that jump, forward by a day and back by an hour, while a process runs and before it starts.

Nobody is allowed because of it: certificates that end or haven't begun prove nothing, a table that is too old
decides nothing, and the audit trail goes on (A.11: AU-06). The clock is libfaketime's, of one process.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from . import quick
from .instead import instead, with_clock
from .load import Way, ask, loading
from .mesh import NOTHING, WAIT_SECONDS, Mesh, http
from .test_audit_trail import policyctl
from .test_full_disks import STOP

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORWARD, BACK, RIGHT = "+25h", "-1h", "+0"
CUT_SECONDS = 5.0
WATCH_SECONDS = 1.5
DEFAULTS = """\
---
apiVersion: policyd.dev/v1alpha1
kind: MeshDefaults
metadata: {name: default}
spec: {maxTableAge: 12h}
"""
FRIENDLY = (ask("GET", "/friends/1", 200),)
OPEN = (ask("GET", "/open/1", 200),)
DENIED = (ask("GET", "/marks/1", 403),)


@pytest.fixture(scope="module")
def manifests(manifests: Path) -> Path:
    """The books with the quick one among them; tables are too old after half a day."""
    (manifests / "quick.yaml").write_text(quick.MANIFEST + DEFAULTS)
    return manifests


class Clock:
    """What a process takes for the time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(RIGHT)

    def set(self, offset: str) -> None:
        """Let it jump."""
        new = self.file.with_suffix(".new")
        new.write_text(offset + "\n")
        new.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@asynccontextmanager
async def _proxy_on(mesh: Mesh, clock: Clock) -> AsyncIterator[None]:
    async with instead(mesh.pod("quick-0").proxy, _proxy_words(mesh), with_clock(clock.file)):
        yield
    clock.set(RIGHT)
    await _works(mesh)


def _proxy_words(mesh: Mesh) -> list[str]:
    return list(mesh.pod("quick-0").proxy.command.words)


def _ways(mesh: Mesh) -> list[Way]:
    """Straight to the pod: as a friend with a certificate, and as a stranger."""
    return [quick.direct(mesh, asks=FRIENDLY), quick.plaintext(mesh, asks=OPEN)]


async def _works(mesh: Mesh) -> None:
    """Wait until both are allowed."""
    async with asyncio.timeout(2 * WAIT_SECONDS), loading(_ways(mesh), 1, 0.01, refused=0.05) as tally:
        while not all(tally.right[way.name] for way in _ways(mesh)):
            await asyncio.sleep(0.02)


async def _nobody_is_allowed(*ways: Way) -> None:
    """For a while no answer is a 200, on new connections."""
    async with loading(list(ways), 2, 0.01) as tally:
        await asyncio.sleep(WATCH_SECONDS)  # that nothing happens has no event
    assert tally.by_status[200] == 0, tally
    assert tally.total + tally.unanswered > 10


async def _all_goes_on(mesh: Mesh) -> None:
    """For a while every answer is right: allowed, denied, through another proxy."""
    ways = [*_ways(mesh), quick.plaintext(mesh, asks=DENIED), quick.outbound(mesh)]
    async with loading(ways, 1, 0.01) as tally:
        await asyncio.sleep(WATCH_SECONDS)  # that nothing happens has no event
    assert not [*tally.wrong, *tally.failed]
    assert tally.total > 50


@pytest.mark.promise("P-1")
@pytest.mark.parametrize("offset", [FORWARD, BACK])
async def test_a_proxy_whose_clock_jumps_allows_nobody_on_what_it_can_not_believe(
    mesh: Mesh, clock: Clock, offset: str
) -> None:
    friend, stranger = _ways(mesh)
    async with _proxy_on(mesh, clock):
        await _works(mesh)
        async with loading([friend], 2, 0.01) as kept:
            await kept.next_right(friend.name, WAIT_SECONDS)
            clock.set(offset)
            jumped = time.monotonic()
            if offset == FORWARD:  # what was proven ends with the certificate, and never begins again
                await asyncio.sleep(CUT_SECONDS)  # as long as open work may go on
                assert kept.last_right[friend.name] - jumped < CUT_SECONDS
            await _nobody_is_allowed(friend)
        if offset == FORWARD:  # the table is older than half a day now
            await _nobody_is_allowed(stranger)
            answer = await http(mesh.address("quick-0", quick.PORT), "GET", "/open/1")
            assert (await mesh.denial(answer.decision))["reason"] == "policy_stale"
        refused = await http(mesh.address("quick-0", quick.PORT), "GET", "/marks/1")
        assert refused.status in {403, 503}
        clock.set(RIGHT)
        await _works(mesh)


@pytest.mark.promise("P-1")
@pytest.mark.parametrize("offset", [FORWARD, BACK])
async def test_a_proxy_that_starts_with_another_clock_allows_nobody(
    mesh: Mesh, clock: Clock, offset: str
) -> None:
    """What it kept is over, or is yet to come."""
    friend, stranger = _ways(mesh)
    clock.set(offset)
    async with _proxy_on(mesh, clock):
        async with asyncio.timeout(WAIT_SECONDS):
            while (await http(stranger.address, "GET", "/open/1")) == NOTHING:
                await asyncio.sleep(0.01)
        await _nobody_is_allowed(friend)
        if offset == FORWARD:
            await _nobody_is_allowed(stranger)
        clock.set(RIGHT)


@pytest.mark.parametrize("offset", [FORWARD, BACK])
async def test_identity_with_another_clock_certifies_nobody_and_what_there_is_goes_on(
    mesh: Mesh, clock: Clock, offset: str
) -> None:
    """Tokens are over, or the journal is ahead of the clock and it doesn't start (ID-08).

    A clock that was ahead when identity started leaves a journal that is ahead of the right time: it says so
    and doesn't start until somebody has looked at that journal, and moved it away.
    """
    identity, replica = mesh.up.control_plane.child("identity"), mesh.pod("quick-0")
    clock.set(offset)
    mesh.forget_records()
    async with instead(identity, list(identity.command.words), with_clock(clock.file)):
        if offset == FORWARD:
            await mesh.service_record("identity_ready")
        await _all_goes_on(mesh)
        await replica.proxy.stop()
        shutil.rmtree(replica.state)
        replica.state.mkdir(mode=0o700)
        replica.proxy.start()
        await _nobody_is_allowed(*_ways(mesh))
        mesh.forget_records()
        if offset == FORWARD:
            journal = mesh.up.run.path / "state" / "identity" / "journal"
            journal.rename(journal.with_suffix(".ahead"))
    await mesh.service_record("identity_ready")
    await replica.proxy.stop()  # it would wait half a minute before it asks again
    replica.proxy.start()
    await _works(mesh)


@pytest.mark.promise("P-12")
@pytest.mark.parametrize("offset", [FORWARD, BACK])
async def test_au_06_policyd_with_another_clock_grants_nothing_and_its_trail_goes_on(
    mesh: Mesh, clock: Clock, manifests: Path, offset: str
) -> None:
    policyd, file = mesh.up.control_plane.child("policyd"), manifests / "quick.yaml"
    grant = quick.MANIFEST.replace("prefix: /open", "prefix: /marks")
    assert grant != quick.MANIFEST
    mesh.forget_records()
    async with instead(policyd, list(policyd.command.words), with_clock(clock.file)):
        await mesh.service_record("policyd_ready")
        await mesh.up.all_ready(30)
        clock.set(offset)
        await _all_goes_on(mesh)
        try:
            # Signed at an instant that is yet to come: no proxy takes it. Signed an hour ago: it may.
            file.write_text(grant + DEFAULTS)
            if offset == FORWARD:
                await _nobody_is_allowed(Way("marks", mesh.address("quick-0", quick.PORT), DENIED))
                assert (await http(mesh.address("quick-0", quick.PORT), "GET", "/open/1")).status == 200
        finally:
            file.write_text(quick.MANIFEST + DEFAULTS)
        clock.set(RIGHT)
    await _works(mesh)
    await mesh.up.all_ready(60)
    file.write_text(quick.MANIFEST + DEFAULTS + STOP)
    async with asyncio.timeout(WAIT_SECONDS):
        while (await http(mesh.address("quick-0", quick.PORT), "GET", "/open/1")).status != 403:
            await asyncio.sleep(0.01)
    file.write_text(quick.MANIFEST + DEFAULTS)
    await _works(mesh)
    assert "nobody changed it" in await policyctl("audit", "verify")
