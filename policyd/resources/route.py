"""What routes share: parents, hosts, backends, and what could not be read of them (semantics U5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from policyd.model.names import CORE, GATEWAY, LINKERD_POLICY, POLICYD, ObjectKey
from policyd.resources.references import GroupName, KindName, Kinds, canonical
from policyd.resources.spec import NamespaceName, ObjectName, Spec

Match_co = TypeVar("Match_co", covariant=True)

_SERVERS: Kinds = frozenset({(POLICYD, "Server"), (LINKERD_POLICY, "Server")})
_SERVICES: Kinds = frozenset({(CORE, "Service")})


class ParentRef(Spec):
    """What a route hangs on: a Server (inbound) or a Service (outbound). Others are somebody else's."""

    group: GroupName = GATEWAY
    """The parent's API group; empty for the core group."""
    kind: KindName = "Gateway"
    """The parent's kind."""
    namespace: NamespaceName | None = None
    """The parent's namespace; by default the route's."""
    name: ObjectName
    """The parent's name."""
    section_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """A part of the parent."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """A port of the parent."""

    def server(self, namespace: str) -> ObjectKey | None:
        """Return the Server meant by a route in `namespace`.

        None where the parent is none of the route's own namespace.
        """
        pair = canonical(self.group, self.kind, _SERVERS)
        whole = self.section_name is None and self.port is None
        if pair is None or self.namespace not in {None, namespace} or not whole:
            return None
        return ObjectKey(*pair, namespace, self.name)

    @property
    def names_a_server(self) -> bool:
        """Whether the parent is a Server, of whatever namespace."""
        return canonical(self.group, self.kind, _SERVERS) is not None

    def service(self, namespace: str) -> ObjectKey | None:
        """Return the Service meant by a route in `namespace` (outbound); None for other kinds."""
        pair = canonical(self.group, self.kind, _SERVICES)
        return None if pair is None else ObjectKey(*pair, self.namespace or namespace, self.name)


class BackendRef(Spec):
    """Where outbound requests go. Inbound routes have no use for it."""

    group: GroupName = ""
    """The backend's API group; empty for the core group."""
    kind: KindName = "Service"
    """The backend's kind."""
    name: ObjectName
    """The backend's name."""
    namespace: NamespaceName | None = None
    """The backend's namespace; by default the route's."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The backend's port."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """Its share of the requests."""


@dataclass(frozen=True, slots=True)
class RouteRule(Generic[Match_co]):
    """A rule of a route. No match at all, readable or not, means every request (semantics R2, R3).

    `written` is the rule's index in the manifest; `unreadable_matches` the indices of matches that can't be
    read.
    """

    written: int
    matches: tuple[Match_co, ...] = ()
    unreadable_matches: tuple[int, ...] = ()
    backend_refs: tuple[BackendRef, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteSpec(Generic[Match_co]):
    """A route as read. Its kind is that of its key; `Match_co` is HTTPMatch or GRPCMatch.

    - `readable`: False where anything of it can't be read, filters we don't implement included: a request
      that selects any of its rules is refused.
    - `match_unreadable`: some match (or the list of rules, or a host) can't be read: every HTTP request on
      its Servers is refused.
    - `parents_unreadable`: some parent can't be read, so that it can't be told which Servers it hangs on.
    """

    kind: Literal["HTTPRoute", "GRPCRoute"]
    parent_refs: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[RouteRule[Match_co], ...] = ()
    readable: bool = True
    match_unreadable: bool = False
    parents_unreadable: bool = False

    def servers(self, namespace: str) -> tuple[ObjectKey, ...]:
        """Return the Servers that a route in `namespace` hangs on, each once, in the order written."""
        named = (parent.server(namespace) for parent in self.parent_refs)
        return tuple(dict.fromkeys(key for key in named if key is not None))
