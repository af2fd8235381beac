"""Every object as it is now, and the indices that a compiler needs.

The same objects give the same world whatever the history (promise P-4): nothing here remembers an order of
events, and `state_hash` is a sum of the objects' own digests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from policyd.index.affected import Affected, Fact
from policyd.index.attachments import Attachments
from policyd.index.claims import concerns
from policyd.index.digests import digest, hash_text, sum_of
from policyd.index.shapes import Shape
from policyd.index.workloads import WORKLOAD_KINDS, Workloads
from policyd.model.names import CORE, ObjectKey, WorkloadName
from policyd.resources.base import Resource, Unreadable

Object = Resource[object] | Unreadable
"""Something that was written, readable or not."""


Change = tuple[ObjectKey, Object | None]
"""The object of that key is now this one, or is gone (None)."""


class World:
    """All objects by key. Not safe for threads: one owner applies batches and compiles."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, Object] = {}
        self.workloads = Workloads()
        self._attachments = Attachments()
        self._by_kind: dict[tuple[str, str], dict[ObjectKey, Object]] = defaultdict(dict)
        self._digests: dict[ObjectKey, int] = {}
        self._sum = 0

    @property
    def state_hash(self) -> str:
        """`sha256:…` over all objects; equal for equal sets of objects."""
        return hash_text(self._sum)

    def hash_from_scratch(self) -> str:
        """Compute `state_hash` anew from the objects, for those who doubt the incremental one."""
        return hash_text(sum_of(digest(found) for found in self.objects.values()))

    def apply(self, batch: Iterable[Change]) -> Affected:
        """Take over a batch; return what it touched. Deleting what isn't there does nothing."""
        batch = list(batch)
        pods = any((key.group, key.kind) in WORKLOAD_KINDS for key, _ in batch)
        before = self.workloads.shape_keys() if pods else frozenset()
        facts: set[Fact] = set()
        servers: list[Object] = []
        workloads: set[WorkloadName] = set()
        for key, new in batch:
            labels = self._labels_of_namespace(key)
            touched = self._replace(key, new)
            if touched and labels != self._labels_of_namespace(key):
                facts.add(Fact("namespaces"))
            for found in touched:
                facts.update(self._facts_of(found))
                if key.kind == "Server":
                    servers.append(found)
            if touched and (key.group, key.kind) in WORKLOAD_KINDS:
                workloads |= self.workloads.replace(key, new)
        after = self.workloads.shape_keys() if pods else frozenset()
        added = after - before
        facts.update(self._shapes_concerned(servers, added))
        return Affected(frozenset(facts), added, before - after, frozenset(workloads))

    def _replace(self, key: ObjectKey, new: Object | None) -> list[Object]:
        """Put the new object in the old one's place; return those of the two that must be looked at again."""
        old = self.objects.get(key)
        if old is None and new is None:
            return []
        fresh = 0 if new is None else digest(new)
        same = old is not None and new is not None and fresh == self._digests[key]
        moved = same and old is not None and new is not None and old.document != new.document
        self._sum = sum_of((self._sum, fresh, -self._digests.pop(key, 0)))
        if old is not None:
            self._attachments.remove(old)
        of_kind = self._by_kind[key.group, key.kind]
        if new is None:
            del self.objects[key]
            del of_kind[key]
        else:
            self.objects[key] = of_kind[key] = new
            self._digests[key] = fresh
            self._attachments.add(new)
        return [found for found in (old, new) if found is not None and (not same or moved)]

    def _labels_of_namespace(self, key: ObjectKey) -> Mapping[str, str] | None:
        """Return what selectors of namespaces read of an object; None where it is no Namespace."""
        found = self.objects.get(key) if (key.group, key.kind) == (CORE, "Namespace") else None
        return None if found is None else found.meta.labels

    def _facts_of(self, found: Object) -> Iterable[Fact]:
        yield Fact("object", found.key)
        yield from self._attachments.facts_of(found)

    def _shapes_concerned(self, servers: list[Object], added: frozenset[str]) -> Iterable[Fact]:
        """Yield what Servers touch of the shapes that were there: of new ones nothing was made yet."""
        for server in servers:
            for shape in self.workloads.shapes_in(server.key.namespace):
                if shape.key not in added and concerns(server, shape):
                    yield Fact("servers", shape.key)

    def servers_in(self, namespace: str) -> list[Object]:
        """Return the Servers of a namespace, the oldest first (semantics W7)."""
        return self._attachments.servers_in(namespace)

    def servers_concerning(self, shape: Shape) -> list[Object]:
        """Return the Servers that can have an effect on the workload, the oldest first."""
        return self._attachments.servers_concerning(shape)

    def policies_about(self, target: ObjectKey) -> list[ObjectKey]:
        """Return the keys of the policies about that Server, route or namespace, sorted."""
        return self._attachments.policies_about(target)

    def routes_of(self, server: ObjectKey) -> list[Object]:
        """Return the routes that name the Server as a parent, the oldest first."""
        return self._attachments.routes_of(server)

    def namespaces(self) -> list[tuple[str, Mapping[str, str]]]:
        """Return the name and labels of every Namespace that has an object, by name."""
        return self._attachments.namespaces()

    def each_of_kind(self, group: str, kind: str) -> Iterable[Object]:
        """Return every object of a kind, in no order."""
        return self._by_kind.get((group, kind), {}).values()

    def of_kind(self, group: str, kind: str) -> list[Object]:
        """Return every object of a kind, by key."""
        return [found for _, found in sorted(self._by_kind.get((group, kind), {}).items())]
