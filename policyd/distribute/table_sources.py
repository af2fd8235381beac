"""What a table was made of: the objects that its rows name, and in what they differ from those of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from policyd.compile.compiler import parse_origin
from policyd.compile.mesh import MESH_DEFAULTS
from policyd.compile.table import CompiledTable
from policyd.index.digests import digest, hash_text
from policyd.index.targets import namespace_key
from policyd.index.world import World
from policyd.model.names import ObjectKey
from policyd.model.origin import FieldPath, path_text
from policyd.resources.authorization_policy import AuthorizationPolicySpec
from policyd.resources.base import Resource, Unreadable
from policyd.resources.instants import rfc3339
from policyd.sources.history import Written, removed, written

MOST_CHANGES = 32
"""Objects of one change that are told one by one."""
MOST_PLACES = 4
"""Places of one object that are told."""

AnyObject = Resource[object] | Unreadable


@dataclass(frozen=True, slots=True)
class Source:
    """An object as it was when the table was made. `found` is None where only its digest was kept."""

    digest: str
    found: AnyObject | None = None


Sources = Mapping[str, Source]
"""By name: `kind.group/namespace/name`."""


def sources_of(world: World, table: CompiledTable, member: ObjectKey) -> dict[str, Source]:
    """Return the objects that a member's table was made of, as far as its rows and their references tell."""
    keys = {MESH_DEFAULTS, namespace_key(member.namespace), *_owners(world, member)}
    keys.update(parse_origin(origin)[0] for origin in _origins(table) if origin)
    for key in tuple(keys):
        found = world.objects.get(key)
        if isinstance(found, Resource) and isinstance(found.spec, AuthorizationPolicySpec):
            keys.update(ref.key(key.namespace) for ref in found.spec.required_authentication_refs)
    present = ((key, world.objects.get(key)) for key in sorted(keys))
    return {key.text: Source(hash_text(digest(found)), found) for key, found in present if found is not None}


def _owners(world: World, member: ObjectKey) -> Iterator[ObjectKey]:
    """Yield who controls a pod, up to the workload; the pod itself says nothing that they don't."""
    known = world.workloads.member(member)
    for _ in range(8):
        if known is None or known.owner is None:
            return
        yield known.owner
        known = world.workloads.member(known.owner)


def _origins(table: CompiledTable) -> Iterator[str]:
    part = table.workload
    for port in (*part.ports, part.other):
        yield port.server_origin
    for route in part.routes:
        yield route.origin
    for rule in (*part.rules, *table.cluster.rules):
        yield rule.origin


def differences(before: Sources, after: Sources) -> list[dict[str, object]]:
    """Say which objects came, went and changed, where in which file, by whom and when. Asks git: slow."""
    changed = [
        name
        for name in sorted({**before, **after})
        if name not in before or name not in after or before[name].digest != after[name].digest
    ]
    return [_difference(name, before.get(name), after.get(name)) for name in changed[:MOST_CHANGES]]


def _difference(name: str, before: Source | None, after: Source | None) -> dict[str, object]:
    if after is None or after.found is None:
        file = None if before is None or before.found is None else before.found.document.file
        places = [] if file is None else [_told("", file, removed(file))]
        return {"what": "removed", "object": name, "places": places}
    what = "added" if before is None else "updated"
    known = None if before is None else before.found
    paths = [()] if known is None else list(differing(known.document.content, after.found.document.content))
    places = []
    for path in paths[:MOST_PLACES]:
        origin = after.found.position(path)
        places.append(_told(path_text(path), origin.text, written(origin)))
    return {"what": what, "object": name, "places": places}


def _told(field: str, place: str, wrote: Written | None) -> dict[str, object]:
    return {
        "field": field,
        "place": place,
        "at": None if wrote is None else rfc3339(wrote.at),
        "author": None if wrote is None else wrote.author,
        "commit": None if wrote is None else wrote.commit,
        **({} if wrote is None or wrote.through is None else {"through": wrote.through}),
    }


def differing(before: object, after: object, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Yield where a document differs from another, as paths in `after`; what is gone, as what it was in."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        if before.keys() - after.keys():
            yield path
        for key, value in after.items():
            yield from differing(before.get(key), value, (*path, str(key)))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _differing_items(before, after, path)
    elif before != after:
        yield path


def _differing_items(before: list[object], after: list[object], path: FieldPath) -> Iterator[FieldPath]:
    """Items by their place; where all that is left of the list stands as before, the list itself."""
    found = False
    for index, value in enumerate(after):
        if value not in before:
            found = True
            yield from differing(before[index] if index < len(before) else None, value, (*path, index))
    if not found and before != after:
        yield path


def versions(sources: Sources) -> dict[str, str]:
    """Return the digests alone, by name."""
    return {name: source.digest for name, source in sources.items()}


def only_digests(kept: Iterable[tuple[str, str]]) -> dict[str, Source]:
    """Return sources of which only the digests were kept."""
    return {name: Source(text) for name, text in kept}
