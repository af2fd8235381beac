"""Denials on their way into the store of a real policyd, delivered by a writer of the tests."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from policyd.up.up_socket import ask_socket

from .audit_client import Spool, delivering, identifier, now
from .mesh import WAIT_SECONDS, Mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")


def record(mesh: Mesh, **fields: Any) -> dict[str, Any]:
    """A denial that the proxy of traffic-0 could have written."""
    return {
        "time": now(),
        "event": "denial",
        "direction": "inbound",
        "namespace": "books",
        "pod": "traffic-0",
        "workload": "deployment/books/traffic",
        "port": 7999,
        "id": identifier(),
        "reason": "no_matching_rule",
        "verdict": "deny",
        "peer": {"ip": "127.0.0.9", "identity": None},
        "request": None,
    } | fields


def svid_of(mesh: Mesh, pod: str = "traffic-0", account: str = "books/traffic") -> Any:
    return mesh.svid(account, mesh.pod(pod).uid)


async def ask(mesh: Mesh, **question: Any) -> dict[str, Any]:
    return await ask_socket(mesh.up.control_plane.status_socket, question)


async def ended(mesh: Mesh, svid: Any, spool: Spool, acknowledged: int = 0) -> GRPCError:
    """How policyd ends a stream with all that is in a spool."""
    with pytest.raises(GRPCError) as caught:
        await _deliver_all(mesh, svid, spool, acknowledged)
    return caught.value


async def _deliver_all(mesh: Mesh, svid: Any, spool: Spool, acknowledged: int) -> None:
    async with delivering(mesh, svid, spool, acknowledged) as delivery:
        await delivery.send(spool.records)
        await delivery.acknowledged(10**9)


async def test_what_is_acknowledged_can_be_asked_for(mesh: Mesh) -> None:
    spool, sent = Spool(), record(mesh)
    async with delivering(mesh, svid_of(mesh), spool) as delivery:
        await delivery.send(spool.add(sent, {"event": "lost", "time": now(), "count": 3, "reason": "test"}))
        await delivery.acknowledged(2)
    found = (await ask(mesh, ask="denial", id=sent["id"]))["denial"]
    assert {**found, "place": None} == {**sent, "place": None}
    listed = await ask(mesh, ask="denials", filter={"workload": sent["workload"]})
    assert [row["denials"] for row in listed["denials"] if row["port"] == 7999] == [1]
    assert any(gap["event"] == "lost" and gap["count"] == 3 for gap in listed["gaps"])
    async with delivering(mesh, svid_of(mesh), spool, 1) as delivery:
        await delivery.acknowledged(2)  # without sending anything: it is kept already
        await delivery.send(spool.records)
        await delivery.send(spool.add(record(mesh)))
        await delivery.acknowledged(3)
    assert (await ask(mesh, ask="status"))["audit"]["problem"] is None


@pytest.mark.parametrize("foreign", [{"namespace": "bank"}, {"pod": "webapp-0"}, {"event": "table"}])
async def test_nobody_writes_about_others(mesh: Mesh, foreign: dict[str, str]) -> None:
    spool = Spool()
    spool.add(record(mesh, **foreign))
    error = await ended(mesh, svid_of(mesh), spool)
    assert (error.status, str(error.message)[:12]) == (Status.PERMISSION_DENIED, "WRONG_WRITER")


async def test_au_06_another_pod_has_a_chain_of_its_own(mesh: Mesh) -> None:
    spool = Spool()
    async with delivering(mesh, svid_of(mesh), spool) as delivery:
        await delivery.send(spool.add(record(mesh)))
        await delivery.acknowledged(1)
    error = await ended(mesh, svid_of(mesh, "webapp-0", "books/webapp"), spool)
    assert str(error.message).startswith("WRONG_WRITER")


async def test_a_chain_with_a_gap_is_refused(mesh: Mesh) -> None:
    spool = Spool()
    spool.add(record(mesh), record(mesh), record(mesh))
    del spool.records[1]
    error = await ended(mesh, svid_of(mesh), spool)
    assert (error.status, str(error.message)[:12]) == (Status.INVALID_ARGUMENT, "CHAIN_BROKEN")


async def test_a_store_that_lost_what_it_acknowledged_says_so(mesh: Mesh) -> None:
    spool = Spool()
    spool.add(record(mesh))
    error = await ended(mesh, svid_of(mesh), spool, 1)
    assert (error.status, str(error.message)[:11]) == (Status.FAILED_PRECONDITION, "ROLLED_BACK")


async def test_who_has_no_pod_writes_nothing(mesh: Mesh) -> None:
    for svid in (mesh.svid("books/traffic", "no-such-uid"), mesh.svid("books/traffic")):
        assert (await ended(mesh, svid, Spool())).status is Status.PERMISSION_DENIED


async def test_a_flood_of_one_message_is_refused(mesh: Mesh) -> None:
    spool = Spool()
    spool.add(record(mesh, detail="x" * 600_000))
    assert (await ended(mesh, svid_of(mesh), spool)).status is Status.RESOURCE_EXHAUSTED


async def test_tables_are_recorded_with_what_changed(mesh: Mesh, manifests: Path) -> None:
    workload = "deployment/books/webapp"
    before = (await ask(mesh, ask="tables", workload=workload))["tables"]
    assert before, "the table that is in force is recorded"
    file = manifests / "webapp.yaml"
    text = file.read_text()
    file.write_text(text.replace("method: {in: [GET, POST]}", "method: {in: [GET]}"))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(tables := (await ask(mesh, ask="tables", workload=workload))["tables"]) == len(before):
                await asyncio.sleep(0.05)  # recorded in the background; nobody tells
        changed = tables[0]["changes"]
        assert [change["object"] for change in changed] == [
            "authorizationpolicy.policyd.dev/books/webapp-visitors"
        ]
        assert changed[0]["what"] == "updated"
        assert changed[0]["places"][0]["place"].startswith(f"{file}:")
        assert tables[0]["before"] == before[0]["table"]
        content = await ask(mesh, ask="table", version=before[0]["table"])
        assert content["content"]
    finally:
        file.write_text(text)


@pytest.mark.promise("P-12")
async def test_au_02_what_was_acknowledged_survives_a_kill(mesh: Mesh) -> None:
    """Killed again and again while it writes: what a client was told is there, and nothing is torn."""
    spool, acknowledged, ids, refusals = Spool(), 0, list[str](), list[str]()
    child = mesh.up.control_plane.child("policyd")
    for round_ in range(3):
        sent = [record(mesh) for _ in range(200)]
        ids += [each["id"] for each in sent]
        spool.add(*sent)
        killed = False
        async with asyncio.timeout(60):
            while acknowledged < len(spool.records):
                try:
                    async with delivering(mesh, svid_of(mesh), spool, acknowledged) as delivery:
                        at = acknowledged
                        if at:
                            await delivery.acknowledged(at)
                        for link in spool.records[at:]:
                            await delivery.send([link])
                            await delivery.acknowledged(link.sequence)
                            acknowledged = link.sequence
                            if not killed and acknowledged % 200 == 50 + round_:
                                killed = True
                                assert child.pid is not None
                                os.kill(child.pid, signal.SIGKILL)
                except (GRPCError, StreamTerminatedError, OSError) as error:
                    refusals.append(str(error))
                    await asyncio.sleep(0.05)  # until it is back
        assert killed
    assert not [refusal for refusal in refusals if "ROLLED_BACK" in refusal or "CHAIN" in refusal]
    found = [await ask(mesh, ask="denial", id=one) for one in ids]
    assert [each.get("denial", {}).get("id") for each in found] == ids


async def test_au_03_a_full_disk_acknowledges_nothing_and_tells_policy_all_the_same(
    mesh: Mesh, manifests: Path
) -> None:
    """The kernel lets policyd's files grow no more: a real failure of a real write."""
    await mesh.up.all_ready(30)
    child = mesh.up.control_plane.child("policyd")
    assert child.pid is not None
    spool = Spool()
    async with delivering(mesh, svid_of(mesh), spool) as delivery:
        await delivery.send(spool.add(record(mesh)))
        await delivery.acknowledged(1)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        spool.add(*(record(mesh) for _ in range(20)))
        error = await ended(mesh, svid_of(mesh), spool, 1)
        assert (error.status, str(error.message)[:17]) == (Status.UNAVAILABLE, "STORE_UNAVAILABLE")
        status = await ask(mesh, ask="status")
        assert status["audit"]["problem"]
        wanted = {proxy["pod"]: proxy["wanted"] for proxy in status["proxies"]}
        file = manifests / "webapp.yaml"
        text = file.read_text()
        file.write_text(text.replace("method: {in: [GET, POST]}", "method: {in: [POST]}"))
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                proxies = (await ask(mesh, ask="status"))["proxies"]
                changed = [each for each in proxies if each["wanted"] != wanted[each["pod"]]]
                if changed and all(each["wanted"] == each["enforced"] for each in changed):
                    break
                await asyncio.sleep(0.05)
        file.write_text(text)
    finally:
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                async with delivering(mesh, svid_of(mesh), spool, 1) as delivery:
                    await delivery.send(spool.records[1:])
                    await delivery.acknowledged(21)
                break
            except GRPCError:
                await asyncio.sleep(0.1)
    assert (await ask(mesh, ask="status"))["audit"]["problem"] is None
    found = await ask(mesh, ask="denial", id=json.loads(spool.records[-1].json)["id"])
    assert "denial" in found
