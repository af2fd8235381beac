"""What is written of statuses, and what isn't: against a small stand-in for the API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubeapi.client import Answer
from kubeapi.errors import ApiError
from kubeapi.path import ResourcePath
from policyd.model.names import GATEWAY, POLICYD, ObjectKey
from policyd.status import writer as writers
from policyd.status.conditions import Status, Verdict, Wanted
from policyd.status.fair_queue import FairQueue
from policyd.status.held import entry_of
from policyd.status.writer import StatusWriter, WantedParents
from tests.unit.policyd.status.worlds import KEY

ROUTE = ObjectKey(GATEWAY, "HTTPRoute", "books", "r")


class Stored:
    """Objects with a status; answers as an API server does, or as it is told to."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.faults: list[ApiError] = []
        self.writes: list[tuple[str, dict[str, Any]]] = []

    def store(self, name: str, uid: str = "u", status: Any = None) -> bytes:
        version = str(len(self.writes) + 10)
        body = {"metadata": {"name": name, "uid": uid, "resourceVersion": version}}
        self.objects[name] = body if status is None else {**body, "status": status}
        return json.dumps(self.objects[name]).encode()

    async def apply(self, path: ResourcePath, name: str, body: Any, *, subresource: str) -> Answer:
        assert (path.namespace, subresource) == ("books", "status")
        if self.faults:
            raise self.faults.pop(0)
        self.writes.append((name, body))
        return Answer(self.store(name, body["metadata"].get("uid", "u"), body["status"]))

    merge = apply


@contextlib.asynccontextmanager
async def writing(*, leads: bool = True) -> AsyncIterator[tuple[StatusWriter, Stored]]:
    stored = Stored()
    made = StatusWriter(stored, lambda: leads)  # type: ignore[arg-type]
    made.held._first.set()
    made.held.paths[POLICYD, "Server"] = ResourcePath(POLICYD, "v1alpha1", "servers")
    made.held.paths[GATEWAY, "HTTPRoute"] = ResourcePath(GATEWAY, "v1", "httproutes")
    made._backoff.next = lambda asked=None: 0.0  # type: ignore[method-assign]
    running = [asyncio.create_task(made._write_for_ever()) for _ in range(writers.WRITERS)]
    yield made, stored
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def settle() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


def wanted(reason: str = "R", *, uid: str = "u", generation: int = 1) -> Wanted:
    return Wanted(uid, generation, (Verdict("Accepted", True, reason, "m"),))


async def test_what_is_as_wanted_is_not_written() -> None:
    async with writing() as (made, stored):
        made.held.took(KEY, stored.store("http"))
        for _ in range(3):
            made.want({KEY: wanted()})
            await settle()
        assert len(stored.writes) == 1
        body = stored.writes[0][1]
        assert body["metadata"] == {"name": "http", "uid": "u"}
        assert body["kind"] == "Server"
        made.held.took(
            KEY,
            json.dumps(
                {**stored.objects["http"], "metadata": {"uid": "u", "resourceVersion": "99"}}
            ).encode(),
        )
        await settle()
        assert len(stored.writes) == 1, "an echo is no change"


async def test_only_the_newest_of_what_is_wanted_meanwhile_is_written() -> None:
    async with writing() as (made, stored):
        made.held.took(KEY, stored.store("http"))
        for number in range(50):
            made.want({KEY: wanted(f"R{number}")})
        await settle()
        assert [body["status"]["conditions"][0]["reason"] for _, body in stored.writes] == ["R49"]


async def test_an_object_that_was_made_again_is_another_and_one_that_is_unknown_waits() -> None:
    async with writing() as (made, stored):
        made.want({KEY: wanted(uid="new")})
        await settle()
        made.held.took(KEY, stored.store("http", "old"))
        await settle()
        assert stored.writes == []
        made.held.took(KEY, stored.store("http", "new"))
        await settle()
        assert len(stored.writes) == 1


@pytest.mark.parametrize("status", [500, 429, 0])
async def test_what_fails_for_the_moment_is_tried_again(status: int) -> None:
    async with writing() as (made, stored):
        stored.faults = [ApiError(status, "Trouble", "so says a test")] * 3
        made.held.took(KEY, stored.store("http"))
        made.want({KEY: wanted()})
        await settle()
        assert len(stored.writes) == 1
        assert (made.written, made.failed) == (1, 3)


async def test_what_is_refused_for_itself_waits_for_another_status() -> None:
    async with writing() as (made, stored):
        stored.faults = [ApiError(422, "Invalid", "so says a test")]
        made.held.took(KEY, stored.store("http"))
        made.want({KEY: wanted()})
        await settle()
        made.look(KEY)
        await settle()
        assert stored.writes == []
        made.want({KEY: wanted("Other")})
        await settle()
        assert len(stored.writes) == 1


async def test_what_was_deleted_meanwhile_is_forgotten() -> None:
    async with writing() as (made, stored):
        stored.faults = [ApiError(404, "NotFound", "gone")]
        made.held.took(KEY, stored.store("http"))
        made.want({KEY: wanted()})
        await settle()
        assert (made.failed, made.waiting, stored.writes) == (0, 0, [])


async def test_ct_14_a_conflict_is_looked_at_again_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "AGAIN_SECONDS", 0.01)
    async with writing() as (made, stored):
        stored.faults = [ApiError(409, "Conflict", "so says a test")]
        made.held.took(KEY, stored.store("http"))
        made.want({KEY: wanted()})
        async with asyncio.timeout(5):
            while not stored.writes:
                await asyncio.sleep(0.005)


async def test_what_somebody_writes_over_is_mended_later_and_not_in_a_fight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with writing() as (made, stored):
        made.held.took(KEY, stored.store("http"))
        made.want({KEY: wanted()})
        await settle()

        def forge(version: int) -> None:
            body = {"metadata": {"uid": "u", "resourceVersion": str(version)}, "status": {"enforced": "9/9"}}
            made.held.took(KEY, json.dumps(body).encode())

        forge(100)
        await settle()
        assert (len(stored.writes), made.waiting) == (1, 1)
        made.want({KEY: wanted("New")})
        await settle()
        assert len(stored.writes) == 2, "news doesn't wait for that"


async def test_who_does_not_lead_writes_nothing() -> None:
    async with writing(leads=False) as (made, stored):
        made.held.took(KEY, stored.store("http"))
        made.want({KEY: wanted()})
        await settle()
        assert stored.writes == []


async def test_routes_are_written_over_the_version_that_was_read() -> None:
    async with writing() as (made, stored):
        other = {"controllerName": "example.org/x", "parentRef": {"name": "g"}, "conditions": []}
        made.held.took(ROUTE, stored.store("r", status={"parents": [other]}))
        ref = {"group": POLICYD, "kind": "Server", "name": "http"}
        entry = (ref, (("Accepted", True, "Accepted", "m"),))
        made.want({ROUTE: WantedParents("u", 1, (entry,))})
        await settle()
        ((_, body),) = stored.writes
        assert body["metadata"] == {"resourceVersion": "10"}
        assert [each["controllerName"] for each in body["status"]["parents"]] == [
            "example.org/x",
            "policyd.dev/policyd",
        ]
        made.want({ROUTE: WantedParents("u", 2, ())})
        await settle()
        assert stored.writes[1][1]["status"]["parents"] == [other]


@pytest.mark.parametrize(
    "status", [b"7", b'{"conditions": 7}', b'{"parents": "x"}', b'{"conditions": [{"type": 7}]}']
)
def test_a_status_of_another_form_counts_as_none(status: bytes) -> None:
    found = entry_of(b'{"metadata": {"uid": "u", "resourceVersion": "7"}, "status": ' + status + b"}")
    assert (found.status, found.parents) == (Status(), ())


async def test_namespaces_take_turns() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for number in range(100):
        assert queue.put("noisy", f"n{number}")
    assert not queue.put("noisy", "one too many")
    assert queue.put("noisy", "n5"), "what waits already needs no room"
    queue.put("quiet", "q")
    found = [await queue.get() for _ in range(3)]
    assert found == ["n0", "q", "n1"]
    assert (queue.dropped, len(queue)) == (1, 98)
