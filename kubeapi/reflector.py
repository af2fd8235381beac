"""One kind, followed: a list, then a watch from there, and again a list where a watch can't go on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from kubeapi.backoff import Backoff
from kubeapi.client import Client, Request
from kubeapi.errors import UNUSABLE, AccessError, ApiError, in_stream
from kubeapi.held import Decode, Disordered, Held, Listing
from kubeapi.path import ResourcePath
from kubeapi.told import Told
from kubeapi.wire import Event, Page, event_of, mark_of, meta_of, version_of

WATCH_SECONDS = (35, 48)
"""How long the server is asked to keep a watch. Bookmarks come every minute or somewhat later, too late to
tell a quiet watch from a dead one in a minute; but one also comes 2 s before a watch ends."""
SLACK_SECONDS = 7.0
"""How much later than asked for a watch may end: with WATCH_SECONDS less than a minute (CT-03)."""
HASTY_SECONDS = 3
"""Asked for where a bookmark is wanted soon: it comes 2 s before the end."""
LEAST_HASTE_SECONDS = 5.0
"""How often that may be asked for: who asks may be anybody's proxy."""
MOST_HASTY = 10
"""Short watches in a row, at most."""
LEAST_RELIST_SECONDS = 60.0
"""How often a list may be, because a bookmark didn't say enough."""
RELIST_SECONDS = 3600.0
"""What no watch told, for whatever reason, is found at the latest then; unchanged objects aren't decoded."""
NOTHING_SECONDS = 1.0
"""A watch that ends within this time and said nothing has failed."""
_NO_LIST_EITHER = frozenset({401, 403, 404, 429})
"""What a WatchList was refused with that a list would be too."""

_NOBODY = "metadata.name=."
"""A name that no object can have."""

T = TypeVar("T")
Tell = Callable[[Told[T]], None]
"""Called on the loop, once for each list and each event. What it raises ends the reflector."""


@dataclass(slots=True)
class Figures:
    """What happened so far."""

    lists: int = 0
    watches: int = 0
    failures: int = 0
    undecodable: int = 0


class Reflector(Generic[T]):
    """Tells everything that happens to a kind's objects. `run` it until cancelled."""

    def __init__(
        self,
        client: Client,
        path: ResourcePath,
        decode: Decode[T],
        tell: Tell[T],
        select: Mapping[str, str] | None = None,
    ) -> None:
        """`select` are `labelSelector` and `fieldSelector` where not all objects are wanted."""
        self.path = path
        self.listed = asyncio.Event()
        """Set once the first list has been told."""
        self.problem: ApiError | AccessError | None = None
        """Why it isn't known now whether anything changed; None while all is well."""
        self.failing_since: float | None = None
        """`time.monotonic` of the first failure in a row."""
        self.figures = Figures()
        self._client = client
        self._tell = tell
        self._select = dict(select or {})
        self._held: Held[T] = Held(decode)
        self._backoff = Backoff()
        self._relist = True
        self._listed_at = float("-inf")
        self._by_pages = False
        self._never_watch_list = False
        self._hurried = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._wanted: int | None = None
        self._hurrying: asyncio.TimerHandle | None = None
        self._hasty_left = 0
        self._hastened_at = float("-inf")
        self._log = structlog.get_logger().bind(kind=path.text)

    @property
    def version(self) -> int | None:
        """Everything up to this resource version has been told."""
        return self._held.version

    @property
    def count(self) -> int:
        """How many objects there are."""
        return self._held.count

    async def run(self) -> None:
        """List and watch for ever. Failures are waited out; they are in `problem`."""
        try:
            while True:
                try:
                    await self._round()
                except (ApiError, AccessError) as error:
                    await self._pause(self._failed(error))
        finally:
            if self._hurrying is not None:
                self._hurrying.cancel()

    def hasten(self, version: int = 0) -> None:
        """Ask the server soon: ends a wait, or a watch that would be quiet for longer.

        Somebody else has seen `version`; where the watch doesn't reach it, a list will. What is asked for too
        soon after the last time is remembered, and the server asked when it may be.
        """
        self._want(version)
        self._hasty_left = MOST_HASTY
        wait = self._hastened_at + LEAST_HASTE_SECONDS - time.monotonic()
        if wait <= 0:
            self._hurry()
        elif self._hurrying is None:
            self._hurrying = asyncio.get_running_loop().call_later(wait, self._hurry)

    def _want(self, version: int) -> None:
        self._wanted = max(version, self._wanted or 0)

    def _hurry(self) -> None:
        """End what waits, if nothing has been as far as is wanted since."""
        self._hurrying = None
        if self._wanted is None:
            return
        self._hastened_at = time.monotonic()
        self._hurried.set()
        if self._watching is not None and not self._relist:
            self._watching.cancel()

    async def _round(self) -> None:
        """List if need be, then watch once."""
        if time.monotonic() - self._listed_at > RELIST_SECONDS:
            self._relist = True
        at_once = self._relist and not self._by_pages and not self._never_watch_list
        if self._relist and not at_once:
            await self._list()
            self._by_pages = False
        self._watching = asyncio.create_task(self._watch_list() if at_once else self._watch())
        try:
            await self._watching
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # not hastened: we are to end
        finally:
            self._watching = None

    def _failed(self, error: ApiError | AccessError) -> float:
        """Note a failure; return how long to wait."""
        self.figures.failures += 1
        if self.problem is None:
            self.failing_since = time.monotonic()
            self._log.warning("watch_failed", problem=str(error))
        self.problem = error
        if not isinstance(error, ApiError):
            return self._backoff.next()
        if error.expired or error.too_new:
            self._relist = True
            if not self._backoff.failures:  # a list is what helps, and it may help at once
                self._backoff.failures = 1
                return 0.0
        return self._backoff.next(error.retry_after)

    def _settled(self) -> None:
        """Take it for well that a watch has gone on for a moment; one that is to list first has still to."""
        if not self._relist:
            self._went_well()

    def _went_well(self) -> None:
        self._backoff.reset()
        if self.problem is not None:
            self._log.info("watch_recovered")
            self.problem = self.failing_since = None

    async def _pause(self, seconds: float) -> None:
        self._hurried.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            pass

    async def _list(self) -> None:
        listing = self._held.listing()
        version: int | None = None
        async for answer in self._client.pages(self.path, self._select):
            page = answer.into(Page)
            if version is None:
                version = version_of(page.metadata.resource_version)
            for body in page.items or ():
                listing.add(meta_of(body), body)
        if version is not None:
            self._tell_list(listing.finish(version))

    def _tell_list(self, told: Told[T]) -> None:
        self.figures.lists += 1
        self._relist = False
        self._listed_at = time.monotonic()
        if self._wanted is not None and self._wanted <= (self.version or 0):
            self._wanted = None
        self._tell(told)
        self._went_well()
        self.listed.set()

    async def _watch_list(self) -> None:
        """One request that is a list and then a watch; where the former never ends, pages come next."""
        params = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        listing = self._held.listing()
        try:
            async with contextlib.aclosing(self._events(params, _watch_seconds())) as events:
                async for event in events:
                    if self._relist:
                        self._collect(event, listing)
                    else:
                        self._take(event)
        except ApiError as error:
            if self._relist and error.status not in _NO_LIST_EITHER:
                self._by_pages = True
                self._never_watch_list = error.status in {400, 422}
                if error.status:
                    return  # it was answered: a list may go well, and goes at once
            raise
        if self._relist:
            self._by_pages = True
            raise ApiError(200, UNUSABLE, "a watch that ended before it had told what there is")

    def _collect(self, event: Event, listing: Listing[T]) -> None:
        """Take an event of a list that isn't whole yet."""
        if event.type == "BOOKMARK":
            mark = mark_of(event.object)
            if mark.ends_list:
                self._tell_list(listing.finish(version_of(mark.metadata.resource_version)))
        elif event.type == "DELETED":
            listing.remove(meta_of(event.object))
        else:
            listing.add(meta_of(event.object), event.object)

    async def _watch(self) -> None:
        params = {"resourceVersion": str(self._held.version)}
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            await self._take_all(params, _watch_seconds())
            return
        try:
            await self._read_nothing()
            await self._take_all(params, HASTY_SECONDS)
        except BaseException:  # also where the next haste cancels it: what was wanted still is
            self._want_again(wanted)
            raise
        if wanted > (self.version or 0):
            self._reach(wanted)

    async def _take_all(self, params: dict[str, str], seconds: int) -> None:
        async with contextlib.aclosing(self._events(params, seconds)) as events:
            async for event in events:
                self._take(event)

    async def _read_nothing(self) -> None:
        """Ask for no object, as of now: the cache that bookmarks come from has to catch up for that."""
        selectors = [self._select["fieldSelector"]] if "fieldSelector" in self._select else []
        params = {**self._select, "fieldSelector": ",".join([*selectors, _NOBODY])}
        await self._client.send(Request("GET", self.path.url(), params))

    def _reach(self, wanted: int) -> None:
        """Ask once more, or list: a bookmark can lag behind what a list says."""
        if time.monotonic() - self._listed_at >= LEAST_RELIST_SECONDS:
            self._relist = True
        else:
            self._want_again(wanted)

    def _want_again(self, version: int) -> None:
        if self._hasty_left:
            self._hasty_left -= 1
            self._want(version)

    def _take(self, event: Event) -> None:
        """Tell of an event. Raises ApiError where it can't be the next one."""
        try:
            if event.type == "BOOKMARK":
                told = self._held.marked(version_of(mark_of(event.object).metadata.resource_version))
            elif event.type == "DELETED":
                told = self._held.deleted(meta_of(event.object))
            else:
                told = self._held.applied(meta_of(event.object), event.object)
        except Disordered as error:
            raise ApiError(410, "Expired", f"events out of order: {error}") from error
        if told is not None:
            self._tell(told)
        self._went_well()

    async def _events(self, params: dict[str, str], seconds: int) -> AsyncGenerator[Event, None]:
        """Watch once. Raises ApiError where the watch fails, says that it failed, or says nothing at all."""
        began, heard = time.monotonic(), False
        asked = {**self._select, **params, "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        limit = seconds + SLACK_SECONDS
        self.figures.watches += 1
        async with self._client.watch(self.path, asked, silence=limit, longest=limit) as lines:
            # A quiet kind says nothing for most of a minute: that its watch goes on is good enough.
            settling = asyncio.get_running_loop().call_later(NOTHING_SECONDS, self._settled)
            try:
                async for line in lines:
                    event = event_of(line)
                    if event.type == "ERROR":
                        raise in_stream(bytes(event.object))
                    heard = True
                    yield event
            finally:
                settling.cancel()
        if not heard and time.monotonic() - began < NOTHING_SECONDS:
            raise ApiError(200, UNUSABLE, "a watch that ended at once")


def _watch_seconds() -> int:
    return random.randint(*WATCH_SECONDS)  # noqa: S311 — spreads load, hides nothing
