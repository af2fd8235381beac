"""From `kubectl apply` to another table: policyd on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubeapi.access import Access
from kubeapi.client import Client
from policyd.index.world import World
from policyd.sources.kubernetes.once import read_once
from policyd_api.v1 import stream_pb2 as wire
from tests.api import objects
from tests.api.controlling import POLICIES, Serving, controlling, policy
from tests.api.following import until
from tests.api.rig import ApiServer, free_ports
from tests.api.test_faults import ask

APPLIES = 20
SOON_SECONDS = 1.0
"""From the API server's answer to a new table (design §12: to its enforcement)."""


async def test_an_applied_policy_is_another_table_at_once(
    api: ApiServer, pod: objects.Pod, tmp_path: Path
) -> None:
    async with controlling(api, tmp_path) as controller:
        serving = Serving(controller, pod, pod.namespace)
        waits: list[float] = []
        for step in range(APPLIES):
            before = serving.table
            await ask(api, "POST", POLICIES.format(pod.namespace), policy(f"p{step}", f"account-{step}"))
            waits.append(await until(lambda before=before: serving.table != before))  # type: ignore[misc]
        after = serving.table
        await asyncio.to_thread(api.kubectl, "delete", "authorizationpolicies", "--all", "-n", pod.namespace)
        await until(lambda: serving.table != after)
        waits.sort()
        print(  # noqa: T201 — a figure
            f"\napply to new table: median {waits[len(waits) // 2] * 1000:.0f} ms, "
            f"longest {waits[-1] * 1000:.0f} ms"
        )
        assert waits[len(waits) // 2] < SOON_SECONDS
        async with Client(Access.kubeconfig(api.kubeconfig), "tests") as client:
            world = World()
            world.apply((found.key, found) for found in await read_once(client))
        await until(lambda: controller.world.state_hash == world.state_hash)


async def test_a_replica_that_is_behind_catches_up_for_a_proxy_that_is_ahead(
    api: ApiServer, pod: objects.Pod, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    async with controlling(api, tmp_path) as first:
        await ask(api, "POST", POLICIES.format(pod.namespace), policy("late", "someone"))
        async with controlling(api, tmp_path / "second") as second:
            held = second.standing()
            rows = [wire.Basis(source=source, kind=kind, revision=at) for source, kind, at in held.basis]
            ahead = wire.Held(epoch=held.epoch, basis=rows)

            def is_level() -> bool:
                ours = {(source, kind): at for source, kind, at in first.standing().basis}
                return all(ours[row.source, row.kind] >= row.revision for row in rows)

            first.hasten(ahead)
            took = await until(is_level, 20.0)
            print(f"\ncaught up within {took:.1f} s")  # noqa: T201 — a figure


@dataclass
class Process:
    """A policyd that no identity gives a certificate; its status socket answers all the same."""

    socket: Path
    process: subprocess.Popen[bytes]

    def status(self) -> dict[str, Any]:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(b'{"ask": "status"}\n')
            answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
            return answer

    def state(self) -> str:
        try:
            return str(self.status()["stateHash"])
        except (OSError, ValueError):
            assert self.process.poll() is None, "policyd ended"
            return ""


@pytest.fixture
def policyd(api: ApiServer, pod: objects.Pod, tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "token").write_text("token")
    (port,) = free_ports(1)
    config = {
        "trustDomain": "cluster.local",
        "namespace": "policyd",
        "listen": "127.0.0.1:0",
        "cluster": {"kubeconfig": str(api.kubeconfig)},
        "identity": {"address": f"127.0.0.1:{port}"},
        "tokenFile": str(tmp_path / "token"),
        "rootsFile": str(api.ca),
        "stateDir": str(tmp_path / "state"),
        "statusSocket": str(tmp_path / "status.sock"),
    }
    (tmp_path / "policyd.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "policyd.distribute.main", "--config", str(tmp_path / "policyd.json")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    yield Process(tmp_path / "status.sock", process)
    process.terminate()
    assert process.wait(20) == 0, (tmp_path / "log").read_text()


async def test_kubectl_apply_reaches_a_policyd_process(
    api: ApiServer, pod: objects.Pod, policyd: Process
) -> None:
    await until(lambda: policyd.state() != "", 60.0)
    before = policyd.state()
    written = policy("readers", "someone")
    written["metadata"]["namespace"] = pod.namespace
    began = time.monotonic()
    await asyncio.to_thread(api.apply, written)
    answered = time.monotonic() - began
    await until(lambda: policyd.state() != before)
    print(  # noqa: T201 — a figure
        f"\nkubectl {answered * 1000:.0f} ms, seen {(time.monotonic() - began) * 1000:.0f} ms after its start"
    )
    status = policyd.status()
    assert status["broken"] is None
    assert {row["source"] for row in status["basis"]} == {"cluster"}
    kinds = {row["kind"]: row["revision"] for row in status["basis"]}
    assert kinds["AuthorizationPolicy.policyd.dev"] > 0
    assert kinds["Pod"] > 0
