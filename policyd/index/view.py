"""The world as a compiler sees it: read only, and every fact that was given is noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policyd.index.affected import Fact
from policyd.index.shapes import Shape
from policyd.index.world import Object, World
from policyd.model.names import ObjectKey


class View:
    """One compilation's look at the world; `facts` are what it was made from."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.facts: set[Fact] = set()

    def note(self, facts: Iterable[Fact]) -> None:
        """Take over the facts that something used here was made from."""
        self.facts.update(facts)

    def object(self, key: ObjectKey) -> Object | None:
        self.facts.add(Fact("object", key))
        return self._world.objects.get(key)

    def servers(self, shape: Shape) -> list[Object]:
        """Return the Servers that can have an effect on the workload, the oldest first."""
        self.facts.add(Fact("servers", shape.key))
        return self._world.servers_concerning(shape)

    def policies(self, target: ObjectKey) -> list[ObjectKey]:
        """Return the keys of the policies about that Server, route or namespace."""
        self.facts.add(Fact("policies", target))
        return self._world.policies_about(target)

    def routes(self, server: ObjectKey) -> list[Object]:
        """Return the routes that name the Server as a parent, the oldest first."""
        self.facts.add(Fact("routes", server))
        return self._world.routes_of(server)

    def namespaces(self) -> list[tuple[str, Mapping[str, str]]]:
        """Return the name and labels of every Namespace that has an object, by name."""
        self.facts.add(Fact("namespaces"))
        return self._world.namespaces()
