"""A source that is followed, and what its batches come to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from kubeapi.access import Access
from kubeapi.client import Client
from policyd.index.digests import digest
from policyd.model.names import ObjectKey
from policyd.resources.registry import KINDS, Kind
from policyd.sources.events import AnyObject, Batch, Deleted
from policyd.sources.kubernetes.cluster_source import ClusterSource
from policyd.sources.kubernetes.once import read_once
from tests.api.rig import ApiServer

SOME: tuple[Kind, ...] = tuple(
    KINDS[name]
    for name in (
        ("policyd.dev", "Server"),
        ("policyd.dev", "AuthorizationPolicy"),
        ("", "Pod"),
        ("", "Namespace"),
        ("", "ServiceAccount"),
    )
)
"""Enough kinds for most tests."""
RECOVER_SECONDS = 60.0
"""Longer than the longest wait between attempts."""


@dataclass
class Following:
    """The state that follows from the batches so far."""

    source: ClusterSource
    state: dict[ObjectKey, AnyObject] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)

    def take(self, batch: Batch) -> None:
        self.batches.append(batch)
        for event in batch.events:
            if isinstance(event, Deleted):
                del self.state[event.key]
            else:
                self.state[event.key] = event.object

    @property
    def digests(self) -> dict[str, int]:
        return {key.text: digest(found) for key, found in self.state.items()}

    def named(self, kind: str, namespace: str) -> set[str]:
        return {key.name for key in self.state if (key.kind, key.namespace) == (kind, namespace)}


@contextlib.asynccontextmanager
async def follow(access: Access, kinds: Iterable[Kind] = SOME) -> AsyncIterator[Following]:
    async with Client(access, "tests") as client:
        found = Following(ClusterSource(client, kinds))

        async def run() -> None:
            async for batch in found.source.batches():
                found.take(batch)

        found.take(await found.source.begin())
        running = asyncio.create_task(run())
        try:
            yield found
            assert not running.done()
        finally:
            found.source.close()
            await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), 10)


async def until(
    true: Callable[[], bool], seconds: float = 30.0, what: Callable[[], str] = lambda: "it never came true"
) -> float:
    """Wait; return how long that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, what()
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def fresh(api: ApiServer, kinds: Iterable[Kind] = SOME) -> dict[str, int]:
    """Return what a list says that nothing stands in the way of."""
    async with Client(Access.kubeconfig(api.kubeconfig), "tests") as client:
        return {found.key.text: digest(found) for found in await read_once(client, kinds)}


async def until_fresh(api: ApiServer, found: Following, kinds: Iterable[Kind] = SOME) -> None:
    """Wait until the followed state is that of a fresh list, and all is well."""
    wanted = await fresh(api, kinds)

    def differing() -> str:
        return (
            f"the state isn't that of a fresh list in {dict(wanted.items() ^ found.digests.items()).keys()}"
        )

    await until(lambda: found.digests == wanted, RECOVER_SECONDS, differing)
    await until(lambda: found.source.behind == (), RECOVER_SECONDS, lambda: str(found.source.behind))
