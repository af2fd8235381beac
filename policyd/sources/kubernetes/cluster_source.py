"""A cluster, followed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import structlog

from kubeapi.backoff import Backoff
from kubeapi.client import Client
from kubeapi.errors import AccessError, ApiError
from kubeapi.path import ResourcePath
from kubeapi.reflector import Reflector
from kubeapi.told import Told
from policyd.errors import SourceError
from policyd.model.finding import Finding
from policyd.resources.checks import ENGINE, Checks
from policyd.resources.registry import Kind
from policyd.sources.events import Batch
from policyd.sources.kubernetes.decoders import Decoders
from policyd.sources.kubernetes.followed import Followed
from policyd.sources.kubernetes.pending import Pending
from policyd.sources.kubernetes.served import FOLLOWED, served

NAME = "cluster"
"""A cluster's name in a basis: there is one, and every replica reads the same."""
GATHER_SECONDS = 0.05
"""Everything from this long becomes one batch (design §8)."""
QUIET_SECONDS = 0.01
"""A batch ends when nothing has come for this long."""
LOOK_SECONDS = 1.0
"""How often it is looked at what isn't followed."""
ASK_SECONDS = 30.0
"""How often it is asked what the cluster serves, where some kinds are missing (decision record 12)."""
ASK_SOON_SECONDS = 1.0
SOON = 8
"""How often it is asked soon after a CRD changed: what it defines is served a moment later."""
SURE_AFTER = 3
"""How often in a row a kind that has objects must be found missing before they count as gone."""
SURE_SECONDS = 10.0
_CRDS = ResourcePath("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_ANY_KIND = "*"


class ClusterSource:
    """Follows every kind that policyd reads. A state is never partial: `begin` waits for all first lists."""

    counts_itself = True

    def __init__(self, client: Client, kinds: Iterable[Kind] = FOLLOWED, checks: Checks = ENGINE) -> None:
        """`client` stays the caller's, who closes it after this."""
        self.name = NAME
        self._client = client
        self._pending = Pending()
        self._wake = asyncio.Event()
        decoders = Decoders(checks)
        self._followed = [Followed(kind, decoders, self._pending.take, self._wake.set) for kind in kinds]
        self._crds: Reflector[None] = Reflector(client, _CRDS, lambda _: None, self._crds_changed)
        self._ask = asyncio.Event()
        self._soon = 0
        self._known = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._closed = False
        self._unknown: str | None = None
        self._behind: dict[str, str] = {}
        self._revision = 0

    @property
    def behind(self) -> tuple[str, ...]:
        """The kinds that aren't followed now, `*` where it isn't even known which there are."""
        return tuple(sorted(self._behind))

    async def begin(self) -> Batch:
        """Return all that is there. Waits for an API server that can't be reached; raises SourceError."""
        for work in (self._supervise(), self._crds.run(), self._look()):
            self._keep(asyncio.create_task(work))
        first = asyncio.create_task(self._listed())
        self._keep(first)
        while not first.done() and not self._closed:
            await self._wake.wait()
            self._wake.clear()
            self._raise_failed()
        return self._batch()

    async def batches(self) -> AsyncIterator[Batch]:
        """Each change, when it comes; also how far is known where nothing changed."""
        while not self._closed:
            await self._wake.wait()
            if not self._pending.is_empty:
                await self._gather()
            self._wake.clear()
            self._raise_failed()
            if not self._closed:
                yield self._batch()

    def hasten(self, kind: str, version: int) -> None:
        """Find out soon whether a kind is as far as that."""
        for followed in self._followed:
            if followed.text == kind and followed.version < version:
                followed.hasten(version)

    def close(self) -> None:
        """End all watches; whoever iterates comes to the end of it."""
        self._closed = True
        for followed in self._followed:
            followed.stop()
        for task in self._tasks:
            task.cancel()
        self._wake.set()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()
        self._wake.set()

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise SourceError(f"{self.name}: can't be followed: {self._failed}") from self._failed

    async def _listed(self) -> None:
        await self._known.wait()
        for followed in self._followed:
            await followed.listed()

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER_SECONDS
        while loop.time() < until:
            stirred = self._pending.stirred
            await asyncio.sleep(QUIET_SECONDS)
            if self._pending.stirred == stirred:
                return

    def _batch(self) -> Batch:
        self._revision += 1
        # A kind that isn't served has no version; that it isn't is as of what is known of CRDs.
        crds = self._crds.version or 0
        versions = tuple((each.text, each.reached(crds)) for each in self._followed)
        return Batch(self._revision, self._pending.drain(), self._findings(), versions)

    def _findings(self) -> tuple[Finding, ...]:
        advice = "what was read last counts; see whether the API server answers, and what policyd may read"
        return tuple(
            Finding("error", "source-behind", f"{self.name}: {kind}: {problem}", advice=advice)
            for kind, problem in sorted(self._behind.items())
        )

    async def _look(self) -> None:
        """Find again and again what isn't followed, and tell where that is something else than before."""
        while True:
            behind = {each.text: each.behind for each in self._followed if each.behind is not None}
            if self._unknown is not None:
                behind[_ANY_KIND] = self._unknown
            if behind.keys() != self._behind.keys():
                self._behind = behind
                self._wake.set()
            await asyncio.sleep(LOOK_SECONDS)

    async def _supervise(self) -> None:
        """Ask what is served, and follow it."""
        backoff = Backoff()
        while True:
            try:
                paths = await served(self._client, [each.kind for each in self._followed])
            except (ApiError, AccessError) as error:
                structlog.get_logger().warning("cluster_not_asked", problem=str(error))
                self._unknown = str(error)
                await asyncio.sleep(backoff.next())
                continue
            self._unknown = None
            backoff.reset()
            for followed in self._followed:
                self._settle(followed, paths.get((followed.kind.group, followed.kind.name)))
            self._known.set()
            await self._until_asked_again()

    def _settle(self, followed: Followed, path: ResourcePath | None) -> None:
        """Follow a kind where it is served now, if it isn't followed there already."""
        if path is None and followed.path is not None:
            followed.absent += 1
            if followed.absent >= SURE_AFTER or followed.is_empty:
                structlog.get_logger().warning("kind_no_longer_served", kind=followed.text)
                followed.forget()
            return
        followed.absent = 0
        if path is not None and path != followed.path:
            structlog.get_logger().info("kind_followed", kind=followed.text, version=path.version)
            self._keep(followed.follow(self._client, path))

    async def _until_asked_again(self) -> None:
        wait = ASK_SECONDS
        if any(each.absent for each in self._followed):
            wait = SURE_SECONDS
        elif self._soon:
            self._soon -= 1
            wait = ASK_SOON_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._ask.wait()
        self._ask.clear()

    def _crds_changed(self, told: Told[None]) -> None:
        if told.changes and self._known.is_set():
            self._soon = SOON
            self._ask.set()
