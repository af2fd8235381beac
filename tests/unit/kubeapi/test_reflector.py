"""What a reflector makes of lists and watches that go wrong, said by a server that reads from a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from kubeapi.client import Client
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Applied, Gone, Told, Undecodable
from tests.unit.kubeapi.small_server import Say, Server, say, status, until

PATH = ResourcePath("policyd.dev", "v1alpha1", "servers")


class Thing(msgspec.Struct):
    """What is read of an object here."""

    value: int


_DECODER = msgspec.json.Decoder(Thing)


def thing(name: str, version: int, value: Any = 0, uid: str = "") -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, "value": value}


def event(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": found}


def mark(version: int, last: bool = False) -> dict[str, Any]:
    meta: dict[str, Any] = {"resourceVersion": str(version)}
    if last:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event("BOOKMARK", {"kind": "Server", "metadata": meta})


def watch(*events: dict[str, Any] | bytes, ends: bool = False) -> Say:
    """A watch of these events that then ends, or says nothing more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for found in events:
            await response.write(found if isinstance(found, bytes) else json.dumps(found).encode() + b"\n")
        if not ends:
            await asyncio.sleep(60)
        return response

    return answer


def listing(version: int, *things: dict[str, Any]) -> Say:
    return say(body={"metadata": {"resourceVersion": str(version)}, "items": list(things)})


class Seen:
    """The state that follows from what was told."""

    def __init__(self) -> None:
        self.told: list[Told[Thing]] = []
        self.state: dict[str, tuple[str, Any]] = {}

    def tell(self, told: Told[Thing]) -> None:
        self.told.append(told)
        for change in told.changes:
            if isinstance(change, Gone):
                assert self.state.pop(change.name.name)[0] == change.uid
                continue
            found = change.object
            value = found if isinstance(found, Undecodable) else found.value
            self.state[change.name.name] = (change.uid, value)

    @property
    def values(self) -> dict[str, Any]:
        return {name: value for name, (_, value) in self.state.items()}


class Followed:
    def __init__(self, seen: Seen, reflector: Reflector[Thing]) -> None:
        self.seen = seen
        self.reflector = reflector


@contextlib.asynccontextmanager
async def follow(server: Server, *answers: Say) -> AsyncIterator[Followed]:
    server.answers = [*answers, watch()]
    seen = Seen()
    async with Client(server.access(), "test") as client:
        reflector: Reflector[Thing] = Reflector(client, PATH, _DECODER.decode, seen.tell)
        running = asyncio.create_task(reflector.run())
        try:
            yield Followed(seen, reflector)
            assert not running.done()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


FIRST = (event("ADDED", thing("a", 3, 1)), event("ADDED", thing("b", 5, 2)), mark(7, last=True))


async def test_a_watch_list_is_told_whole_and_goes_on(server: Server) -> None:
    live = (event("MODIFIED", thing("a", 8, 10)), event("DELETED", thing("b", 9, 2)), mark(12))
    async with follow(server, watch(*FIRST, *live)) as followed:
        await until(lambda: followed.reflector.version == 12)
        assert [len(told.changes) for told in followed.seen.told] == [2, 1, 1, 0]
        assert followed.seen.values == {"a": 10}
        assert followed.reflector.listed.is_set()
    assert server.asked[0].query["sendInitialEvents"] == "true"
    assert "resourceVersion" not in server.asked[0].query


async def test_a_state_is_never_partial(server: Server) -> None:
    async with follow(server, watch(*FIRST[:2])) as followed:
        await until(lambda: len(server.asked) == 1)
        await asyncio.sleep(0.2)
        assert followed.seen.told == []
        assert not followed.reflector.listed.is_set()


@pytest.mark.parametrize(
    "first",
    [
        say(422, status(422, "Invalid", "sendInitialEvents is forbidden for watch")),
        say(500, status(500, "InternalError", "etcd is too old")),
        watch(event("ERROR", status(410, "Expired", "too old"))),
    ],
)
async def test_without_watch_list_it_is_pages(server: Server, first: Say) -> None:
    pages = listing(7, thing("a", 3, 1))
    async with follow(server, first, pages, watch(event("ADDED", thing("b", 8)))) as followed:
        await until(lambda: followed.reflector.version == 8)
        assert followed.seen.values == {"a": 1, "b": 0}
    assert server.asked[2].query["resourceVersion"] == "7"


GONE_HTTP = say(410, status(410, "Expired", "too old resource version"))
GONE_IN_STREAM = watch(event("ERROR", status(410, "Gone", "too old resource version")))
TOO_NEW = say(504, status(504, "Timeout", "Too large resource version: 7, current: 6"))
DISORDERED = watch(event("MODIFIED", thing("a", 20)), event("MODIFIED", thing("b", 15)))


@pytest.mark.parametrize("failure", [GONE_HTTP, GONE_IN_STREAM, TOO_NEW, DISORDERED])
async def test_ct_01_what_went_away_meanwhile_goes(server: Server, failure: Say) -> None:
    again = (event("ADDED", thing("a", 20, 9)), event("ADDED", thing("c", 21, 3)), mark(30, last=True))
    async with follow(server, watch(*FIRST, ends=True), failure, watch(*again)) as followed:
        await until(lambda: followed.reflector.version == 30)
        assert followed.seen.values == {"a": 0 if failure is DISORDERED else 9, "c": 3}
        assert followed.reflector.figures.lists == 2


async def test_ct_01_what_did_not_change_is_not_read_again(server: Server) -> None:
    again = (*FIRST[:2], event("ADDED", thing("c", 21, 3)), mark(30, last=True))
    async with follow(server, watch(*FIRST, ends=True), GONE_HTTP, watch(*again)) as followed:
        await until(lambda: followed.reflector.version == 30)
        assert [change.name.name for change in followed.seen.told[-1].changes] == ["c"]


async def test_ct_01_duplicates_and_stale_bookmarks_change_nothing(server: Server) -> None:
    twice = [event("MODIFIED", thing("a", 8, 10))] * 2
    gone = [event("DELETED", thing("b", 9, 2))] * 2
    live = (*twice, mark(4), *gone, mark(9), event("ADDED", thing("c", 11)))
    async with follow(server, watch(*FIRST, *live)) as followed:
        await until(lambda: followed.reflector.version == 11)
        assert followed.seen.values == {"a": 10, "c": 0}
    assert len(server.asked) == 1


async def test_ct_02_failures_are_waited_out_without_a_busy_loop(server: Server) -> None:
    broken = [say(500, b"oops"), say(503, b""), watch(ends=True), say(429, b""), say(403, b"")]
    async with follow(server, *broken, *broken) as followed:
        began = time.monotonic()
        await until(lambda: followed.reflector.figures.failures >= 5, 60.0)
        assert followed.reflector.problem is not None
        assert followed.reflector.failing_since is not None
        assert time.monotonic() - began > 0.4  # five times the least wait, less one that was answered at once
    assert len(server.asked) <= 12


async def test_ct_02_it_recovers_and_says_so(server: Server) -> None:
    async with follow(server, watch(*FIRST, ends=True), say(500, b""), watch(mark(9))) as followed:
        await until(lambda: followed.reflector.version == 9)
        assert followed.reflector.problem is None
        assert followed.reflector.figures.failures == 1
        assert followed.seen.values == {"a": 1, "b": 2}


async def test_ct_03_a_silent_watch_is_begun_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeapi.reflector.WATCH_SECONDS", (1, 1))
    monkeypatch.setattr("kubeapi.reflector.SLACK_SECONDS", 0.2)
    async with follow(server, watch(*FIRST), watch(event("ADDED", thing("c", 8)))) as followed:
        await until(lambda: followed.reflector.version == 8)
        assert followed.seen.values == {"a": 1, "b": 2, "c": 0}


async def test_ct_03_the_bounds_are_within_a_minute() -> None:
    from kubeapi import reflector  # noqa: PLC0415

    assert max(reflector.WATCH_SECONDS) + reflector.SLACK_SECONDS <= 60


async def test_ct_04_what_cannot_be_read_is_handed_on(server: Server) -> None:
    bad = event("ADDED", thing("bad", 8, "no number"))
    async with follow(server, watch(*FIRST, bad, event("ADDED", thing("c", 9)))) as followed:
        await until(lambda: followed.reflector.version == 9)
        found = followed.seen.values["bad"]
        assert isinstance(found, Undecodable)
        assert json.loads(found.body)["value"] == "no number"
        assert "int" in found.problem
        assert followed.seen.values["c"] == 0


@pytest.mark.parametrize(
    "line", [b"{not json\n", b'{"type":"NEW","object":{}}\n', b'{"type":"ADDED","object":1}\n']
)
async def test_ct_04_lines_that_are_no_events_end_the_watch(server: Server, line: bytes) -> None:
    async with follow(server, watch(*FIRST, line), watch(mark(9))) as followed:
        await until(lambda: followed.reflector.version == 9)
        assert followed.seen.values == {"a": 1, "b": 2}


async def test_ct_05_another_object_of_the_same_name_replaces_the_first(server: Server) -> None:
    again = (event("ADDED", thing("a", 20, 9, uid="other")), mark(30, last=True))
    live = (event("DELETED", thing("a", 31, 9, uid="other")), event("ADDED", thing("a", 32, 7, uid="third")))
    async with follow(server, watch(*FIRST, ends=True), GONE_HTTP, watch(*again, *live)) as followed:
        await until(lambda: followed.reflector.version == 32)
        assert followed.seen.state == {"a": ("third", 7)}
        (first,) = (
            each
            for told in followed.seen.told
            for each in told.changes
            if getattr(each, "uid", "") == "other" and isinstance(each, Applied)
        )
        assert first.name.name == "a"


async def test_a_version_that_is_no_number_is_said(server: Server) -> None:
    bad = thing("a", 3)
    bad["metadata"]["resourceVersion"] = "v12-abc"
    async with follow(server, watch(*FIRST, event("MODIFIED", bad))) as followed:
        await until(lambda: followed.reflector.problem is not None)
        assert "expected a number" in str(followed.reflector.problem)
        assert followed.reflector.version == 7


async def test_hasten_asks_for_a_bookmark_and_then_for_a_list(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeapi.reflector.LEAST_RELIST_SECONDS", 0.0)
    hasty = (listing(9), watch(mark(9), ends=True))
    whole = watch(event("ADDED", thing("a", 3, 1)), mark(20, last=True))
    async with follow(server, watch(*FIRST), *hasty, whole) as followed:
        await until(lambda: followed.reflector.version == 7)
        followed.reflector.hasten(20)
        followed.reflector.hasten(20)
        await until(lambda: followed.reflector.version == 20)
        assert followed.seen.values == {"a": 1}
    assert server.asked[1].query == {"fieldSelector": "metadata.name=."}
    assert server.asked[2].query["timeoutSeconds"] == "3"
    assert len(server.asked) == 4


async def test_a_haste_soon_after_another_is_remembered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeapi.reflector.LEAST_HASTE_SECONDS", 2.0)
    first = (listing(9), watch(mark(9)))
    second = (listing(20), watch(mark(20)))
    async with follow(server, watch(*FIRST), *first, *second) as followed:
        await until(lambda: followed.reflector.version == 7)
        followed.reflector.hasten(9)
        await until(lambda: followed.reflector.version == 9)
        followed.reflector.hasten(20)
        assert followed.reflector.version == 9
        await until(lambda: followed.reflector.version == 20)
    assert server.asked[3].query == {"fieldSelector": "metadata.name=."}


async def test_a_haste_that_fails_is_made_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeapi.backoff.LEAST_SECONDS", 0.01)
    again = (listing(20), watch(mark(20)))
    async with follow(server, watch(*FIRST), say(500, b""), *again) as followed:
        await until(lambda: followed.reflector.version == 7)
        followed.reflector.hasten(20)
        await until(lambda: followed.reflector.version == 20)
    assert server.asked[1].query == server.asked[2].query == {"fieldSelector": "metadata.name=."}


async def test_hasten_ends_a_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeapi.backoff.LEAST_SECONDS", 50.0)
    async with follow(server, say(403, b""), watch(*FIRST)) as followed:
        await until(lambda: followed.reflector.problem is not None)
        followed.reflector.hasten()
        await until(followed.reflector.listed.is_set)


async def test_ct_02_a_quiet_watch_that_goes_on_is_well(server: Server) -> None:
    async with follow(server, watch(*FIRST, ends=True), say(500, b""), watch()) as followed:
        await until(lambda: followed.reflector.problem is not None)
        await until(lambda: followed.reflector.problem is None)
        assert followed.reflector.version == 7
