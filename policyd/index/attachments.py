"""Who refers to whom: Servers by namespace, policies by target, routes by parent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from policyd.index.affected import Fact
from policyd.index.ages import age_of
from policyd.index.servers import ServerIndex
from policyd.index.shapes import Shape
from policyd.index.targets import POLICY_KINDS, target_of
from policyd.model.names import CORE, LINKERD_POLICY, OUR_GROUPS, ObjectKey
from policyd.resources.base import Resource, Unreadable
from policyd.resources.route import RouteSpec
from policyd.resources.server_authorization import ServerAuthorizationSpec

Object = Resource[object] | Unreadable
_Key = TypeVar("_Key")

ROUTE_KINDS = frozenset({"HTTPRoute", "GRPCRoute"})


class Attachments:
    """Indices over what was written; each is a function of the objects that are there."""

    def __init__(self) -> None:
        self._servers: dict[str, ServerIndex] = defaultdict(ServerIndex)
        self._policies: dict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self._server_authorizations: dict[str, dict[ObjectKey, Object]] = defaultdict(dict)
        self._routes: dict[ObjectKey, dict[ObjectKey, Object]] = defaultdict(dict)
        self._lost_routes: dict[str, dict[ObjectKey, Object]] = defaultdict(dict)
        self._namespaces: dict[str, Object] = {}

    def add(self, found: Object) -> None:
        key = found.key
        if key.group == CORE and key.kind == "Namespace":
            self._namespaces[key.name] = found
        elif key.kind in ROUTE_KINDS:
            for server in parents_of(found):
                self._routes[server][key] = found
            if parents_are_unknown(found):
                self._lost_routes[key.namespace][key] = found
        elif key.group in OUR_GROUPS:
            self._add_policy(key, found)

    def _add_policy(self, key: ObjectKey, found: Object) -> None:
        if key.kind == "Server":
            self._servers[key.namespace].add(found)
        elif key.kind in POLICY_KINDS:
            self._policies[target_of(found)].add(key)
        elif key.kind == "ServerAuthorization":
            self._server_authorizations[key.namespace][key] = found

    def remove(self, found: Object) -> None:
        key = found.key
        if key.group == CORE and key.kind == "Namespace":
            del self._namespaces[key.name]
        elif key.kind in ROUTE_KINDS:
            for server in parents_of(found):
                _discard(self._routes, server, key)
            if parents_are_unknown(found):
                _discard(self._lost_routes, key.namespace, key)
        elif key.group in OUR_GROUPS:
            self._remove_policy(key, found)

    def _remove_policy(self, key: ObjectKey, found: Object) -> None:
        if key.kind == "Server":
            self._servers[key.namespace].remove(found)
        elif key.kind in POLICY_KINDS:
            target = target_of(found)
            self._policies[target].discard(key)
            if not self._policies[target]:
                del self._policies[target]
        elif key.kind == "ServerAuthorization":
            _discard(self._server_authorizations, key.namespace, key)

    def facts_of(self, found: Object) -> Iterable[Fact]:
        """Yield what a change of this object changes elsewhere."""
        key = found.key
        if key.kind in ROUTE_KINDS:
            yield from (Fact("routes", server) for server in parents_of(found))
            if parents_are_unknown(found):
                yield from (Fact("routes", server) for server in self._servers[key.namespace].by_key)
        elif key.group in OUR_GROUPS and key.kind in POLICY_KINDS:
            yield Fact("policies", target_of(found))
        elif key.group in OUR_GROUPS and key.kind == "ServerAuthorization":
            for server in self._servers[key.namespace].by_key.values():
                if authorizes(found, server):
                    yield Fact("policies", server.key)

    def servers_in(self, namespace: str) -> list[Object]:
        """Return the Servers of a namespace, the oldest first."""
        return sorted(self._servers[namespace].by_key.values(), key=age_of)

    def servers_concerning(self, shape: Shape) -> list[Object]:
        """Return the Servers that can have an effect on a workload, the oldest first."""
        return sorted(self._servers[shape.namespace].concerning(shape), key=age_of)

    def policies_about(self, target: ObjectKey) -> list[ObjectKey]:
        """Return the keys of the policies about that Server, route or namespace, sorted."""
        found = set(self._policies.get(target, ()))
        if target.group == LINKERD_POLICY and target.kind == "Server":
            server = self._servers[target.namespace].by_key.get(target)
            for key, each in self._server_authorizations.get(target.namespace, {}).items():
                if server is not None and authorizes(each, server):
                    found.add(key)
        return sorted(found)

    def routes_of(self, server: ObjectKey) -> list[Object]:
        """Return the routes that hang on a Server, or may, the oldest first."""
        found = {**self._routes.get(server, {}), **self._lost_routes.get(server.namespace, {})}
        return sorted(found.values(), key=age_of)

    def namespaces(self) -> list[tuple[str, Mapping[str, str]]]:
        return [(name, found.meta.labels) for name, found in sorted(self._namespaces.items())]


def parents_of(route: Object) -> tuple[ObjectKey, ...]:
    """Return the Servers that a route names as parents (semantics R1)."""
    if isinstance(route, Resource) and isinstance(route.spec, RouteSpec):
        named: tuple[ObjectKey, ...] = route.spec.servers(route.key.namespace)
        return named
    return ()


def parents_are_unknown(route: Object) -> bool:
    """Whether it can't be told which Servers a route hangs on: it may be any of its namespace."""
    if isinstance(route, Resource) and isinstance(route.spec, RouteSpec):
        return bool(route.spec.parents_unreadable)
    return True


def authorizes(authorization: Object, server: Object) -> bool:
    """Whether a ServerAuthorization names or selects a Server of its namespace (semantics A8)."""
    if not isinstance(authorization, Resource) or server.key.group != LINKERD_POLICY:
        return False
    spec = authorization.spec
    if not isinstance(spec, ServerAuthorizationSpec):
        return False
    if spec.server.selector is None:
        return spec.server.name == server.key.name
    return spec.server.selector.matches(server.meta.labels)


def _discard(index: dict[_Key, dict[ObjectKey, Object]], place: _Key, key: ObjectKey) -> None:
    inner = index.get(place, {})
    inner.pop(key, None)
    if not inner:
        index.pop(place, None)
