"""Several policyds on one API server, and one that begins again: nobody is told anything older."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policyd.distribute.basis import behind
from policyd.distribute.controller import Controller
from policyd.engine import Table
from policyd_api.v1 import stream_pb2 as wire
from tests.api import objects
from tests.api.controlling import POLICIES, Serving, controlling, policy
from tests.api.faults import FaultProxy
from tests.api.following import RECOVER_SECONDS, until
from tests.api.rig import ApiServer
from tests.api.test_faults import ask

STEPS = 30
MOVES = 4
"""How often the proxy goes to some replica, within a step."""
KILLS = 5
STORM = 200
"""Edits of one tenant, one after the other as fast as they are taken."""


@pytest.fixture
async def proxy(api: ApiServer) -> AsyncIterator[FaultProxy]:
    found = FaultProxy(api)
    await found.open()
    yield found
    await found.close()


def numbered(number: int) -> dict[str, Any]:
    return policy("numbered", f"account-{number}")


async def write(api: ApiServer, namespace: str, number: int) -> None:
    path = f"{POLICIES.format(namespace)}/numbered?fieldManager=tests&force=true"
    await ask(api, "PATCH", path, numbered(number), **{"Content-Type": "application/apply-patch+yaml"})


@dataclass
class Moving:
    """A proxy: it takes what it is told only from who has reached what it was told last."""

    namespace: str
    pod: objects.Pod
    held: wire.Held | None = None
    seen: int = -1
    withheld: int = 0

    def goes_to(self, controller: Controller) -> None:
        standing = controller.standing()
        if behind(standing.basis, standing.epoch, self.held) is not None:
            self.withheld += 1
            return
        number = number_in(Serving(controller, self.pod, self.namespace))
        assert number >= self.seen, f"told of {number} after {self.seen}"
        self.seen = number
        rows = [wire.Basis(source=source, kind=kind, revision=at) for source, kind, at in standing.basis]
        self.held = wire.Held(epoch=standing.epoch, basis=rows)


def number_in(serving: Serving) -> int:
    """Which of the numbered policies a table was made with; -1: none."""
    table = serving.controller.told.find(f"sha256:{serving.table.hex()}")
    assert table is not None
    for part in json.loads(Table(table).rows())["workload"]["pools"]["identities"]:
        for form in part["any_of"]:
            _, _, number = form.rpartition("/account-")
            if number.isdigit():
                return int(number)
    return -1


async def _misbehave(proxy: FaultProxy, dice: random.Random) -> None:
    """Let one replica be late, in one of several ways, or not."""
    match dice.randrange(4):
        case 0:
            proxy.stall()
        case 1:
            proxy.cut()
        case 2:
            proxy.delay = 0.2
            proxy.cut()
        case _:
            proxy.delay = 0.0


async def test_ct_07_a_proxy_that_moves_between_replicas_never_goes_back(
    api: ApiServer,
    pod: objects.Pod,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are active and serve; one of them sees the cluster late."""
    monkeypatch.setattr("kubeapi.reflector.WATCH_SECONDS", (2, 3))
    monkeypatch.setattr("kubeapi.reflector.SLACK_SECONDS", 1.0)
    dice = random.Random(7)
    (tmp_path / "late").mkdir()
    moving = Moving(pod.namespace, pod)
    async with (
        controlling(api, tmp_path) as first,
        controlling(api, tmp_path / "late", proxy.access) as late,
    ):
        for number in range(STEPS):
            await _misbehave(proxy, dice)
            await write(api, pod.namespace, number)
            for _ in range(MOVES):
                moving.goes_to(dice.choice((first, late)))
                await asyncio.sleep(dice.random() * 0.05)
        assert moving.withheld > 0, "no replica was ever behind"
        proxy.delay = 0.0
        for controller in (first, late):
            serving = Serving(controller, pod, pod.namespace)
            await until(lambda serving=serving: number_in(serving) == STEPS - 1, RECOVER_SECONDS)  # type: ignore[misc]


async def test_ct_08_who_begins_again_tells_nothing_older(
    api: ApiServer,
    pod: objects.Pod,
    tmp_path: Path,
) -> None:
    """A policyd of a cluster keeps nothing of it: however it ended, it begins with a list, and goes on."""
    moving = Moving(pod.namespace, pod)
    for number in range(KILLS):
        async with controlling(api, tmp_path) as controller:
            moving.goes_to(controller)
            await write(api, pod.namespace, number)
            serving = Serving(controller, pod, pod.namespace)
            await until(lambda serving=serving, number=number: number_in(serving) == number)  # type: ignore[misc]
            moving.goes_to(controller)
            assert moving.seen == number


async def test_ct_13_a_tenant_that_edits_without_end_costs_a_batch_and_not_each_edit(
    api: ApiServer,
    pod: objects.Pod,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How long others wait meanwhile: `test_p_8_ct_13_a_storm_of_edits_delays_nobody_elses`."""
    taken = 0
    take = Controller._take

    def counted(controller: Controller, *more: Any) -> None:
        nonlocal taken
        taken += 1
        take(controller, *more)

    monkeypatch.setattr(Controller, "_take", counted)
    async with controlling(api, tmp_path) as controller:
        serving = Serving(controller, pod, pod.namespace)
        await write(api, pod.namespace, 0)
        at_once = 50
        for number in range(0, STORM, at_once):
            await asyncio.gather(*(write(api, pod.namespace, number + each) for each in range(at_once)))
        await write(api, pod.namespace, STORM)
        await until(lambda: number_in(serving) == STORM, RECOVER_SECONDS)
        print(f"\n{STORM} edits were {taken} batches")  # noqa: T201 — a figure
        # One in 50 ms; how many edits come meanwhile is the machine's affair.
        assert taken <= STORM * 3 / 4
