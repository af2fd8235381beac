"""One Lease on a real API server, and candidates that are killed, paused, cut off and outrun."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.elector import Elector
from kubeapi.lease import Timing
from kubeapi.path import ResourcePath
from tests.api.faults import FaultProxy, status
from tests.api.following import until
from tests.api.rig import ApiServer, RigError
from tests.api.test_faults import ask

NAME = "tests"
QUICK = Timing(lease=4, renew_deadline=2.5, retry=0.4)
SLACK_SECONDS = 10.0
"""A busy machine's; a takeover that never comes fails after the Lease and this."""
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"

_CANDIDATE = """
import asyncio, sys
from pathlib import Path
from kubeapi.access import Access
from kubeapi.client import Client
from kubeapi.elector import Elector
from kubeapi.lease import Timing
from kubeapi.path import ResourcePath

async def main(kubeconfig, namespace, identity):
    async with Client(Access.kubeconfig(Path(kubeconfig)), "tests") as client:
        path = ResourcePath("coordination.k8s.io", "v1", "leases", namespace)
        elector = Elector(client, path, "tests", identity, Timing(4, 2.5, 0.4))
        async def lead():
            print("leads", flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                print("leads no more", flush=True)
        await elector.run(lead)

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass
class Candidate:
    """An elector of this process, and what it was told."""

    elector: Elector
    task: asyncio.Task[None] | None = None
    told: list[str] = field(default_factory=list)

    async def lead(self) -> None:
        self.told.append("leads")
        try:
            await asyncio.Event().wait()
        finally:
            self.told.append("leads no more")

    def start(self) -> None:
        self.task = asyncio.create_task(self.elector.run(self.lead))

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def candidate(access: Access, namespace: str, identity: str) -> AsyncIterator[Candidate]:
    async with Client(access, "tests") as client:
        path = ResourcePath("coordination.k8s.io", "v1", "leases", namespace)
        made = Candidate(Elector(client, path, NAME, identity, QUICK))
        made.start()
        try:
            yield made
        finally:
            await made.stop()


@pytest.fixture
def other(api: ApiServer, namespace: str, tmp_path: Path) -> Iterator[Any]:
    """A candidate that is a process, so that it can be paused and killed; `says` is what it printed."""
    processes: list[subprocess.Popen[bytes]] = []

    class Other:
        def start(self) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", _CANDIDATE, str(api.kubeconfig), namespace, "other"]
            with (tmp_path / "said").open("ab") as log:
                processes.append(subprocess.Popen(command, stdout=log, env=dict(os.environ)))
            return processes[-1]

        def says(self) -> list[str]:
            lines = (tmp_path / "said").read_text().splitlines()
            return [line for line in lines if line in {"leads", "leads no more"}]  # the rest is its log

    yield Other()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait()


def access_of(api: ApiServer) -> Access:
    return Access.kubeconfig(api.kubeconfig)


def _poll(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def lease(api: ApiServer, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(api, "GET", f"{LEASES.format(namespace)}/{NAME}"))["spec"]
    return found


async def test_one_of_two_leads_and_gives_the_lease_back_at_its_end(api: ApiServer, namespace: str) -> None:
    async with candidate(access_of(api), namespace, "one") as one:
        await until(lambda: one.elector.is_leader)
        async with candidate(access_of(api), namespace, "two") as two:
            await until(lambda: two.elector.holder == "one")
            assert not two.elector.is_leader
            assert (await lease(api, namespace))["holderIdentity"] == "one"
            await one.stop()
            assert one.told == ["leads", "leads no more"]
            assert not one.elector.is_leader
            took = await until(lambda: two.elector.is_leader)
            assert took < QUICK.lease, "a Lease that was given back needn't be waited for"
            assert (await lease(api, namespace))["leaseTransitions"] == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_ct_07_a_leader_that_is_killed_or_paused_is_followed_by_another(
    api: ApiServer, namespace: str, other: Any, how: signal.Signals
) -> None:
    process = other.start()
    await until(lambda: other.says() == ["leads"])
    async with candidate(access_of(api), namespace, "second") as second:
        await until(lambda: second.elector.holder == "other")
        process.send_signal(how)
        took = await until(lambda: second.elector.is_leader, QUICK.lease + SLACK_SECONDS)
        print(f"\ntaken over {took:.1f} s after {how.name}")  # noqa: T201 — a figure
        assert took > QUICK.renew_deadline - QUICK.retry * 2, "sooner than the other could know of"
        if how is signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
            await until(lambda: other.says() == ["leads", "leads no more"])
            assert second.elector.is_leader
            assert (await lease(api, namespace))["holderIdentity"] == "second"


async def test_ct_07_who_cannot_renew_stops_before_another_could_begin(
    api: ApiServer, namespace: str
) -> None:
    proxy = FaultProxy(api)
    await proxy.open()
    try:
        async with (
            candidate(proxy.access, namespace, "cut-off") as cut,
            candidate(access_of(api), namespace, "waits") as waits,
        ):
            await until(lambda: cut.elector.is_leader or waits.elector.is_leader)
            if waits.elector.is_leader:
                await waits.stop()
                await until(lambda: cut.elector.is_leader)
                waits.start()
            await until(lambda: waits.elector.holder == "cut-off")
            proxy.delay = 3600.0  # every request is taken, none answered
            began = time.monotonic()
            both = False
            stopped = 0.0
            while not waits.elector.is_leader:
                assert time.monotonic() - began < QUICK.lease + SLACK_SECONDS
                if not stopped and cut.told[-1] == "leads no more":
                    stopped = time.monotonic() - began
                await asyncio.sleep(0.005)
                both |= cut.elector.is_leader and waits.elector.is_leader
            assert not both
            assert 0 < stopped <= time.monotonic() - began
            assert cut.elector.problem is not None
            proxy.delay = 0.0
    finally:
        proxy.delay = 0.0
        await proxy.close()


async def test_a_conflict_costs_an_attempt_and_no_more(api: ApiServer, namespace: str) -> None:
    proxy = FaultProxy(api)
    await proxy.open()
    left = 3

    def conflict(request: Any) -> Any:
        nonlocal left
        if request.method != "PUT" or left == 0:
            return None
        left -= 1
        from aiohttp import web  # noqa: PLC0415

        return web.json_response(status(409, "Conflict"), status=409)

    try:
        async with candidate(proxy.access, namespace, "one") as one:
            await until(lambda: one.elector.is_leader)
            proxy.answer = conflict
            await until(lambda: left == 0)
            assert one.elector.is_leader
            assert one.told == ["leads"]
    finally:
        await proxy.close()


async def test_somebody_else_s_name_in_the_record_is_believed(api: ApiServer, namespace: str) -> None:
    async with candidate(access_of(api), namespace, "one") as one:
        await until(lambda: one.elector.is_leader)
        merge = {"Content-Type": "application/merge-patch+json"}
        stolen = {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 600}}
        await ask(api, "PATCH", f"{LEASES.format(namespace)}/{NAME}", stolen, **merge)
        await until(lambda: one.told == ["leads", "leads no more"])
        assert one.elector.holder == "thief"
        assert not one.elector.is_leader


async def test_a_lease_that_somebody_deletes_is_made_again(api: ApiServer, namespace: str) -> None:
    async with candidate(access_of(api), namespace, "one") as one:
        await until(lambda: one.elector.is_leader)
        await ask(api, "DELETE", f"{LEASES.format(namespace)}/{NAME}")

        def is_there() -> bool:
            try:
                found = api.request("GET", f"{LEASES.format(namespace)}/{NAME}")
            except RigError:
                return False
            return bool(found["spec"]["holderIdentity"] == "one")

        await asyncio.to_thread(_poll, is_there)
        assert one.told == ["leads"]


async def test_who_fails_at_leading_lets_another_lead(api: ApiServer, namespace: str) -> None:
    async with Client(access_of(api), "tests") as client:
        path = ResourcePath("coordination.k8s.io", "v1", "leases", namespace)
        broken = Elector(client, path, NAME, "broken", QUICK)

        async def fail() -> None:
            raise RuntimeError("so says a test")

        running = asyncio.create_task(broken.run(fail))
        try:
            await until(lambda: broken.transitions == 1)
            async with candidate(access_of(api), namespace, "sound") as sound:
                await until(lambda: sound.elector.is_leader)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
