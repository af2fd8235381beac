"""Which of the kinds that we read a cluster serves, in which version and at which path."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from kubeapi.client import Client
from kubeapi.errors import ApiError
from kubeapi.path import ResourcePath
from policyd.model.names import CORE
from policyd.resources.registry import KINDS, Kind

_READY = "/readyz"
_NO_ANSWER_TO_US = frozenset({401, 403, 404})
FOLLOWED: tuple[Kind, ...] = tuple(KINDS.values())
"""What policyd reads of a cluster."""

KindName = tuple[str, str]
"""(group, kind)."""


class _Version(msgspec.Struct):
    version: str


class _Group(msgspec.Struct):
    name: str
    versions: list[_Version]


class _Groups(msgspec.Struct):
    groups: list[_Group]


class _Resource(msgspec.Struct):
    name: str
    kind: str
    verbs: list[str]


class _Resources(msgspec.Struct):
    resources: list[_Resource]


async def served(client: Client, kinds: Iterable[Kind] = FOLLOWED) -> Mapping[KindName, ResourcePath]:
    """Return the path of each kind that is served, in the newest version that both sides know.

    Raises ApiError where it can't be told: an API server that has just started doesn't list the groups of
    CRDs yet, and what isn't listed would count as a kind without objects.
    """
    await _require_ready(client)
    wanted = list(kinds)
    listed = (await client.raw("/apis")).into(_Groups)
    versions = {group.name: {each.version for each in group.versions} for group in listed.groups}
    versions[CORE] = {"v1"}
    asked = sorted(
        {
            (kind.group, version)
            for kind in wanted
            for version in kind.versions
            if version in versions.get(kind.group, ())
        }
    )
    found = await asyncio.gather(*(_resources(client, group, version) for group, version in asked))
    plurals = {
        (group, version, kind): plural
        for (group, version), resources in zip(asked, found, strict=True)
        for kind, plural in resources.items()
    }
    paths: dict[KindName, ResourcePath] = {}
    for kind in wanted:
        for version in kind.versions:
            plural = plurals.get((kind.group, version, kind.name))
            if plural is not None:
                paths[kind.group, kind.name] = ResourcePath(kind.group, version, plural)
                break
    return paths


async def _require_ready(client: Client) -> None:
    try:
        await client.raw(_READY)
    except ApiError as error:
        if error.status not in _NO_ANSWER_TO_US:
            raise


async def _resources(client: Client, group: str, version: str) -> dict[str, str]:
    """Return the plurals of a group's kinds that can be watched."""
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    listed = (await client.raw(root)).into(_Resources)
    return {
        each.kind: each.name for each in listed.resources if "/" not in each.name and "watch" in each.verbs
    }
