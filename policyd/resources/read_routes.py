"""Reading routes part by part: what can't be read must be known as exactly as what can (semantics U5, R5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field

from policyd.model.names import GATEWAY
from policyd.model.origin import FieldPath
from policyd.resources.base import Resource
from policyd.resources.conditions import check_host
from policyd.resources.draft import Draft
from policyd.resources.grpc_route import GRPCMatch
from policyd.resources.http_route import HTTPMatch
from policyd.resources.route import BackendRef, ParentRef, RouteRule, RouteSpec
from policyd.resources.spec import Spec, shown

M = TypeVar("M", HTTPMatch, GRPCMatch)

SPEC_FIELDS = frozenset({"parentRefs", "hostnames", "rules"})
RULE_FIELDS = frozenset({"matches", "filters", "backendRefs", "timeouts"})
GATEWAY_FIELDS = frozenset({"name", "retry", "sessionPersistence", "useDefaultGateways"})
"""Fields that Gateway API's routes have beside those of Linkerd's; none changes who may call."""

IMPLEMENTED_FILTERS: frozenset[str] = frozenset()
"""Filters that the data plane applies; any other makes its route unreadable."""

MOST_RULES = 64
MOST_MATCHES = 64
MOST_PARENTS = 32
MOST_HOSTS = 64


class Timeouts(Spec):
    """Timeouts of a rule; they concern outbound requests."""

    request: Annotated[str, Field(max_length=32)] | None = None
    """For the whole request."""
    backend_request: Annotated[str, Field(max_length=32)] | None = None
    """For each try."""


class RouteReader(Generic[M]):
    """Reads one route; `build` gives it. Flags only ever turn to the worse."""

    def __init__(self, draft: Draft, kind: Literal["HTTPRoute", "GRPCRoute"], match: type[M]) -> None:
        self._draft = draft
        self._kind = kind
        self._match: type[M] = match
        self._lenient = draft.key.group == GATEWAY
        self._readable = not draft.failed
        self._match_unreadable = False
        self._parents_unreadable = False

    def build(self) -> Resource[RouteSpec[M]]:
        """Return the route, readable or not; its problems are the findings."""
        written = self._draft.mapping(self._draft.spec, ("spec",))
        if written is None:
            return self._draft.resource(RouteSpec(self._kind, (), (), (), False, True, True))
        self._refuse_unknown(
            written, ("spec",), SPEC_FIELDS | ({"useDefaultGateways"} if self._lenient else set())
        )
        parents = self._parents(written)
        hosts = self._hosts(written)
        rules = self._rules(written)
        flags = (self._readable, self._match_unreadable, self._parents_unreadable)
        return self._draft.resource(RouteSpec(self._kind, parents, hosts, rules, *flags))

    def _refuse_unknown(
        self, written: Mapping[str, object], path: FieldPath, known: frozenset[str] | set[str]
    ) -> None:
        """Outside of matches and filters of Gateway API's routes unknown fields are told of, no more (U1)."""
        for name in written.keys() - known:
            expected = f"unknown field {shown(name)}: expected one of {', '.join(sorted(known))}"
            self._draft.add("unknown-field", (*path, name), expected, "warning" if self._lenient else "error")
            self._readable &= self._lenient

    def _items(self, written: Mapping[str, object], path: FieldPath, most: int) -> list[object] | None:
        """Return the list at the last part of a path.

        None where it is no list or too long, [] where it is absent.
        """
        name = str(path[-1])
        if name not in written:
            return []
        items = self._draft.sequence(written[name], path)
        if items is not None and len(items) > most:
            self._draft.add("too-many", path, f"{len(items)} items: expected at most {most}")
            items = None
        self._readable &= items is not None
        return items

    def _part(self, model: type[Spec], written: object, path: FieldPath) -> Any:
        """Return a part outside of matches and filters."""
        if self._lenient and isinstance(written, Mapping):
            known = {info.alias or name for name, info in model.model_fields.items()}
            self._refuse_unknown(written, path, known)
            written = {name: value for name, value in written.items() if name in known}
        read = self._draft.validate(model, written, path)
        self._readable &= read is not None
        return read

    def _parents(self, written: Mapping[str, object]) -> tuple[ParentRef, ...]:
        items = self._items(written, ("spec", "parentRefs"), MOST_PARENTS)
        self._parents_unreadable = items is None
        parents: list[ParentRef] = []
        for index, item in enumerate(items or []):
            parent = self._part(ParentRef, item, ("spec", "parentRefs", index))
            if parent is None:
                self._parents_unreadable = True
            else:
                parents.append(parent)
        return tuple(parents)

    def _hosts(self, written: Mapping[str, object]) -> tuple[str, ...]:
        items = self._items(written, ("spec", "hostnames"), MOST_HOSTS)
        hosts: list[str] = []
        self._match_unreadable |= items is None
        for index, item in enumerate(items or []):
            read = self._host(item, ("spec", "hostnames", index))
            if read is None:
                self._match_unreadable, self._readable = True, False
            else:
                hosts.append(read)
        return tuple(sorted(set(hosts)))

    def _host(self, item: object, path: FieldPath) -> str | None:
        """One host; it is a value and no mapping, so it is asked for directly."""
        if not isinstance(item, str):
            self._draft.add("wrong-type", path, f"{shown(item)}: expected text")
            return None
        try:
            return check_host(item, self._draft.checks)
        except ValueError as error:
            self._draft.add("bad-value", path, str(error))
            return None

    def _rules(self, written: Mapping[str, object]) -> tuple[RouteRule[M], ...]:
        if "rules" not in written:
            return (RouteRule(0),)
        items = self._items(written, ("spec", "rules"), MOST_RULES)
        self._match_unreadable |= items is None
        return tuple(self._rule(item, index) for index, item in enumerate(items or []))

    def _rule(self, item: object, index: int) -> RouteRule[M]:
        path: FieldPath = ("spec", "rules", index)
        written = self._draft.mapping(item, path)
        if written is None:
            self._match_unreadable, self._readable = True, False
            return RouteRule(index, (), (0,))
        self._refuse_unknown(written, path, RULE_FIELDS | (GATEWAY_FIELDS if self._lenient else set()))
        self._filters(written, (*path, "filters"))
        backends = self._backends(written, path)
        if not self._lenient and "timeouts" in written:
            self._part(Timeouts, written["timeouts"], (*path, "timeouts"))
        matches, broken = self._matches(written, (*path, "matches"))
        return RouteRule(index, matches, broken, backends)

    def _matches(
        self, written: Mapping[str, object], path: FieldPath
    ) -> tuple[tuple[M, ...], tuple[int, ...]]:
        items = self._items(written, path, MOST_MATCHES)
        if items is None:
            self._match_unreadable = True
            return (), (0,)
        read = [self._draft.validate(self._match, item, (*path, index)) for index, item in enumerate(items)]
        broken = tuple(index for index, match in enumerate(read) if match is None)
        if broken:
            self._match_unreadable, self._readable = True, False
        return tuple(match for match in read if match is not None), broken

    def _filters(self, written: Mapping[str, object], path: FieldPath) -> None:
        for index, item in enumerate(self._items(written, path, MOST_MATCHES) or []):
            kind = item.get("type") if isinstance(item, Mapping) else None
            if kind not in IMPLEMENTED_FILTERS:
                done = ", ".join(sorted(IMPLEMENTED_FILTERS)) or "none yet"
                self._draft.add(
                    "unsupported-filter",
                    (*path, index),
                    f"filter {shown(kind)} is not implemented (only: {done})",
                )
                self._readable = False

    def _backends(self, written: Mapping[str, object], path: FieldPath) -> tuple[BackendRef, ...]:
        items = self._items(written, (*path, "backendRefs"), MOST_MATCHES)
        backends: list[BackendRef] = []
        for index, item in enumerate(items or []):
            place: FieldPath = (*path, "backendRefs", index)
            inner = item
            if isinstance(item, Mapping):
                self._filters(item, (*place, "filters"))
                inner = {name: value for name, value in item.items() if name != "filters"}
            read = self._part(BackendRef, inner, place)
            if read is not None:
                backends.append(read)
        return tuple(backends)


def read_http_route(draft: Draft) -> Resource[RouteSpec[HTTPMatch]]:
    """Read an HTTPRoute of either group."""
    return RouteReader(draft, "HTTPRoute", HTTPMatch).build()


def read_grpc_route(draft: Draft) -> Resource[RouteSpec[GRPCMatch]]:
    """Read a GRPCRoute."""
    return RouteReader(draft, "GRPCRoute", GRPCMatch).build()
