"""Watches: each new denial as a line, until the asker goes or the time is over."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec

from policyd.audit.store import Reading
from policyd.audit_api import objects
from policyd.audit_api.asked import Asked
from policyd.audit_api.front_proxy import Caller
from policyd.audit_api.names import GROUP_VERSION, MOST_LISTED
from policyd.audit_api.refusal import Refusal
from policyd.errors import StoreUnavailable

LOOK_SECONDS: Final = 0.5
"""How often it is looked for new records while anybody watches: once for all watches."""
MOST_SECONDS: Final = 300
"""How long a watch lasts at most: a right that was taken away counts that long."""
BOOKMARK_SECONDS: Final = 30.0
MOST_WATCHES: Final = 200
MOST_OF_ONE: Final = 20
_FAILED: Final = "the audit store can't be read now"

InThread = Callable[[Callable[[], Any]], Any]
Line = dict[str, Any]
Form = Callable[[Line], Line]


class Watches:
    """All that are open. One look at the store tells all of them whether there is anything new."""

    def __init__(self, store: Reading, in_thread: InThread) -> None:
        self._store = store
        self._in_thread = in_thread
        self._open: Counter[str] = Counter()
        self._last = 0
        self._looked = asyncio.Condition()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._open:
                continue
            try:
                last = await self._in_thread(self._store.last_place)
            except StoreUnavailable:
                continue  # each watch asks for itself, and says so
            async with self._looked:
                self._last = last
                self._looked.notify_all()

    def admit(self, caller: Caller) -> None:
        """Raise Refusal where there are enough watches, of this caller or in all."""
        if self._open.total() >= MOST_WATCHES or self._open[caller.user] >= MOST_OF_ONE:
            raise Refusal(429, "too many watches: of this user, or in all", 5)

    async def lines(self, caller: Caller, asked: Asked, form: Form) -> AsyncIterator[bytes]:
        """Yield the events, each in the form wanted. Raises nothing: what goes wrong is an event, too."""
        self._open[caller.user] += 1
        try:
            async for event in self._events(asked):
                yield msgspec.json.encode({**event, "object": form(event["object"])}) + b"\n"
        except Refusal as error:
            yield msgspec.json.encode({"type": "ERROR", "object": error.body}) + b"\n"
        except StoreUnavailable:
            yield msgspec.json.encode({"type": "ERROR", "object": Refusal(503, _FAILED).body}) + b"\n"
        finally:
            self._open[caller.user] -= 1
            if not self._open[caller.user]:
                del self._open[caller.user]

    async def _events(self, asked: Asked) -> AsyncIterator[Line]:
        end = time.monotonic() + min(asked.seconds or MOST_SECONDS, MOST_SECONDS)
        marked = time.monotonic()
        place = await self._begin(asked)
        if place is None:
            first = await self._in_thread(partial(objects.listed, self._store, asked))
            place = int(first["metadata"]["resourceVersion"])
            for each in reversed(first["items"]):
                yield {"type": "ADDED", "object": each}
        while time.monotonic() < end:
            for event in await self._in_thread(partial(_news, self._store, asked, place)):
                place = max(place, int(event["object"]["metadata"]["resourceVersion"]))
                if event["type"] != "PASSED":
                    yield event
            if asked.bookmarks and time.monotonic() - marked >= BOOKMARK_SECONDS:
                marked = time.monotonic()
                yield _bookmark(place)
            await self._wait(place, end)
        if asked.bookmarks:
            yield _bookmark(place)

    async def _begin(self, asked: Asked) -> int | None:
        """Return from where on is told; None: from what there is. Raises Refusal (410)."""
        if asked.version in ("", "0"):
            return None
        if not asked.version.isascii() or not asked.version.isdigit() or len(asked.version) > 18:
            raise Refusal(400, f"resourceVersion {asked.version!r:.40}: expected what a list said")
        last = await self._in_thread(self._store.last_place)
        if int(asked.version) > last:
            raise Refusal(410, f"resourceVersion {asked.version} is of another store: list again")
        return int(asked.version)

    async def _wait(self, place: int, end: float) -> None:
        """Wait until there is more than what is told, or it is time for a bookmark, or for the end."""
        seconds = max(0.0, min(BOOKMARK_SECONDS, end - time.monotonic()))
        try:
            async with asyncio.timeout(seconds), self._looked:
                await self._looked.wait_for(lambda: self._last > place)
        except TimeoutError:
            pass


def _news(store: Reading, asked: Asked, place: int) -> list[Line]:
    """Return what there is after a place; the last says how far it was looked, whatever was wanted there."""
    last = max(store.last_place(), place)
    # Place 0 is before the first; as a filter it would mean none, and the newest first.
    wanted = replace(asked.filter, after=place or -1, before=last + 1)
    rows = store.records(wanted, MOST_LISTED)
    full = len(rows) >= MOST_LISTED
    reached = rows[-1]["place"] if full else last
    events: list[Line] = [{"type": "ADDED", "object": objects.denial(row)} for row in rows]
    if asked.gaps:
        told = [objects.gap(row) for row in store.gaps(wanted)]
        events += [
            {"type": "ADDED", "object": _gap(each)} for each in reversed(told) if each["place"] <= reached
        ]
    return [*events, {"type": "PASSED", "object": {"metadata": {"resourceVersion": str(reached)}}}]


def _gap(gap: Line) -> Line:
    metadata = {"name": f"place-{gap['place']}", "resourceVersion": str(gap["place"])}
    return {"apiVersion": GROUP_VERSION, "kind": "Gap", "metadata": metadata, "gap": gap}


def _bookmark(place: int) -> Line:
    metadata = {"resourceVersion": str(place)}
    return {
        "type": "BOOKMARK",
        "object": {"apiVersion": GROUP_VERSION, "kind": "Denial", "metadata": metadata},
    }
