"""A cluster, read once: what a command asks about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kubeapi.client import Client
from kubeapi.held import Held
from kubeapi.path import ResourcePath
from kubeapi.told import Applied
from kubeapi.wire import Page, meta_of, version_of
from policyd.model.names import ObjectKey
from policyd.resources.checks import ENGINE, Checks
from policyd.resources.registry import Kind
from policyd.sources.events import AnyObject
from policyd.sources.kubernetes.decoders import Decoders
from policyd.sources.kubernetes.quarantine import object_of
from policyd.sources.kubernetes.served import FOLLOWED, served

LISTS_AT_ONCE = 6
"""Kinds that are listed at a time: a person's command is no reason to make an API server sweat."""


async def read_once(
    client: Client, kinds: Iterable[Kind] = FOLLOWED, checks: Checks = ENGINE
) -> tuple[AnyObject, ...]:
    """Return every object of the kinds that are served. Raises ApiError, AccessError."""
    wanted = list(kinds)
    paths = await served(client, wanted)
    decoders, turns = Decoders(checks), asyncio.Semaphore(LISTS_AT_ONCE)

    async def listed(kind: Kind, path: ResourcePath) -> list[AnyObject]:
        async with turns:
            return await _list(client, kind, path, decoders)

    there = [(kind, paths[kind.group, kind.name]) for kind in wanted if (kind.group, kind.name) in paths]
    found = await asyncio.gather(*(listed(kind, path) for kind, path in there))
    return tuple(each for objects in found for each in objects)


async def _list(client: Client, kind: Kind, path: ResourcePath, decoders: Decoders) -> list[AnyObject]:
    held: Held[AnyObject] = Held(decoders.of(kind, path.version))
    listing = held.listing()
    version = 0
    async for answer in client.pages(path):
        page = answer.into(Page)
        version = version_of(page.metadata.resource_version)
        for body in page.items or ():
            listing.add(meta_of(body), body)
    changes = listing.finish(version).changes
    return [
        object_of(ObjectKey(kind.group, kind.name, *change.name), path.version, change)
        for change in changes
        if isinstance(change, Applied)
    ]
