"""Events are few, whatever happens, and nothing waits for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeapi.errors import ApiError
from policyd.audit.record import Facets, Writer
from policyd.index.world import World
from policyd.resources.read import read
from policyd.sources.yaml_documents import parse
from policyd.status import events
from policyd.status.denials import BURST, Denials, happening_of
from policyd.status.events import Happening, ObjectReference, Recorder
from tests.unit.policyd.compile.worlds import DEPLOYMENT

ID = "0190c0de-aaaa-7bbb-8ccc-0123456789ab"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: books, uid: u-pod}
spec: {containers: [{name: a}]}
"""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Written:
    """Stands for the API server: keeps what was written, and fails where it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.faults: list[ApiError] = []

    def _take(self, *call: Any) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.calls.append(call)

    async def create(self, _path: Any, body: Any) -> None:
        self._take("create", body["metadata"]["name"], body)

    async def merge(self, _path: Any, name: str, body: Any) -> None:
        self._take("merge", name, body)


def happening(cause: str = "c", namespace: str = "books", **more: Any) -> Happening:
    regarding = ObjectReference("apps/v1", "Deployment", namespace, "web", "u")
    return Happening(regarding, (namespace, cause), "Denied", "Decide", f"note of {cause}", **more)


@contextlib.asynccontextmanager
async def recording(clock: Clock) -> AsyncIterator[tuple[Recorder, Written]]:
    written = Written()
    recorder = Recorder(written, "replica", clock)  # type: ignore[arg-type]
    running = asyncio.create_task(recorder.run())
    yield recorder, written
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def test_one_a_minute_for_each_cause() -> None:
    clock = Clock()
    async with recording(clock) as (recorder, written):
        for _ in range(1000):
            recorder.record(happening())
        await settle()
        assert [call[0] for call in written.calls] == ["create"]
        clock.now += events.CAUSE_SECONDS - 1
        recorder.record(happening())
        await settle()
        assert len(written.calls) == 1
        clock.now += 2
        recorder.record(happening())
        await settle()
        kind, name, body = written.calls[1]
        assert (kind, name) == ("merge", written.calls[0][1])
        assert body["series"]["count"] == 1002
        assert recorder.dropped == 0


async def test_an_event_is_of_the_form_that_the_api_wants() -> None:
    async with recording(Clock()) as (recorder, written):
        recorder.record(happening())
        await settle()
        _, name, body = written.calls[0]
    assert name.startswith("web.")
    assert body["regarding"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": "books",
        "name": "web",
        "uid": "u",
    }
    assert body["reportingController"] == "policyd.dev/policyd"
    assert {"eventTime", "action", "reason", "note", "type", "reportingInstance"} <= body.keys()


async def test_causes_of_one_namespace_take_no_room_of_another_s() -> None:
    async with recording(Clock()) as (recorder, written):
        for number in range(1000):
            recorder.record(happening(f"c{number}", "noisy"))
        recorder.record(happening("quiet", "quiet"))
        await settle()
        assert recorder.dropped == 1000 - events.MOST_CAUSES_OF_ONE
        namespaces = [call[2]["metadata"]["namespace"] for call in written.calls]
        assert "quiet" in namespaces[:3], "each has its turn"


@pytest.mark.parametrize(
    ("status", "again"), [(500, True), (429, True), (0, True), (403, False), (422, False)]
)
async def test_what_fails_is_tried_again_where_that_may_help(
    status: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with recording(Clock()) as (recorder, written):
        written.faults = [ApiError(status, "Trouble", "so says a test")]
        monkeypatch.setattr(recorder._backoff, "next", lambda _asked=None: 0.0)
        recorder.record(happening())
        await settle()
        assert len(written.calls) == again
        assert recorder.failed == (not again)


async def test_a_lasting_event_that_is_there_already_was_told() -> None:
    async with recording(Clock()) as (recorder, written):
        written.faults = [ApiError(409, "AlreadyExists", "there")]
        recorder.record(happening(lasting=True))
        await settle()
        assert (recorder.written, recorder.failed) == (1, 0)
        assert written.calls == []


async def test_an_event_that_ended_is_begun_again() -> None:
    clock = Clock()
    async with recording(clock) as (recorder, written):
        recorder.record(happening())
        await settle()
        clock.now += events.CAUSE_SECONDS
        written.faults = [ApiError(404, "NotFound", "ended")]
        recorder.record(happening())
        await settle()
        assert [call[0] for call in written.calls] == ["create", "create"]
        assert written.calls[1][2]["series"]["count"] == 2


def test_names_are_the_same_for_all_replicas_where_the_event_lasts() -> None:
    now, later = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert events._name(happening(lasting=True), now) == events._name(happening(lasting=True), later)
    assert events._name(happening(), now) != events._name(happening(), later)


def test_a_note_has_as_many_bytes_as_the_api_takes() -> None:
    note = events._note("ü" * 2000)
    assert len(note.encode()) <= events.MOST_NOTE
    assert note.endswith("…")


def world() -> World:
    found = World()
    for text in (DEPLOYMENT, POD):
        item = read(parse(text.encode(), "w.yaml").documents[0])
        assert item is not None
        found.apply([(item.key, item)])
    return found


WRITER = Writer("spiffe://cluster.local/ns/books/sa/web", "u-pod", "books", "web-0", "deployment/books/web")


def facets(**more: Any) -> Facets:
    said: dict[str, Any] = {
        "event": "denial",
        "id": ID,
        "reason": "no_matching_rule",
        "authorization": "authorizationpolicy.policyd.dev/books/readers",
        "peer": "spiffe://cluster.local/ns/shop/sa/till",
        "port": 8080,
        "path": "/secret/token=abc",
        **more,
    }
    return Facets(**said)


def test_a_denial_is_told_on_its_workload_with_a_way_to_explain_it() -> None:
    found = happening_of(world(), WRITER, facets())
    assert found is not None
    assert (found.regarding.kind, found.regarding.name) == ("Deployment", "web")
    assert found.related is not None
    assert found.related.uid == "u-pod"
    assert found.note == (
        "no_matching_rule by authorizationpolicy.policyd.dev/books/readers: "
        f"spiffe://cluster.local/ns/shop/sa/till, request on port 8080; policyctl explain {ID}"
    )


@pytest.mark.parametrize(
    "hostile",
    [
        {"reason": "no\nrule"},
        {"authorization": "x; curl evil | sh"},
        {"peer": "10.0.0.7"},
        {"peer": "spiffe://a\x1b[31m"},
        {"id": "1; rm -rf /"},
        {"reason": None, "authorization": None, "peer": None, "port": None, "id": None},
    ],
)
def test_of_what_a_pod_says_only_what_has_a_known_form_is_told(hostile: dict[str, Any]) -> None:
    found = happening_of(world(), WRITER, facets(**hostile))
    assert found is not None
    assert found.note.isprintable()
    assert "secret" not in found.note
    for value in hostile.values():
        assert value is None or value not in found.note


def test_without_its_owner_a_denial_is_told_on_the_pod_and_without_that_nowhere() -> None:
    lone = Writer(WRITER.identity, "u-pod", "books", "web-0", "rollout/books/web")
    found = happening_of(world(), lone, facets())
    assert found is not None
    assert (found.regarding.kind, found.related) == ("Pod", None)
    nobody = Writer(WRITER.identity, "", "books", "gone", "deployment/books/gone")
    assert happening_of(world(), nobody, facets()) is None


def test_a_flood_of_records_is_looked_at_in_part_and_counted() -> None:
    recorder = Recorder(Written(), "replica")  # type: ignore[arg-type]
    denials = Denials(world(), recorder)
    record = b'{"event":"denial","reason":"no_route","id":"' + ID.encode() + b'"}'
    denials.observe(WRITER, [record] * 5000)
    assert denials.passed_over >= 5000 - BURST - 100
    assert recorder.dropped == 0
    denials.observe(WRITER, [b"\xff", b"{", b'{"event": 7}'])
