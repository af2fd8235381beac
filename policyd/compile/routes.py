"""Routes as rows: which hang on a port, and their matches in normal form (semantics R, U5, V7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from policyd.compile.authorizations import Authorization, refusal
from policyd.compile.ports import UNREAD
from policyd.compile.rows import (
    Level,
    Match,
    NamedMatch,
    PathTest,
    Protocol,
    Route,
    RouteKind,
    RouteRule,
    ValueTest,
)
from policyd.index.ages import Age, age_of
from policyd.index.world import Object
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource
from policyd.resources.grpc_route import GRPCMatch
from policyd.resources.http_route import HeaderMatch, HTTPMatch, QueryMatch
from policyd.resources.route import RouteSpec

MOST_PATTERNS = 64
"""How many regular expressions the routes of one Server can have (semantics V7)."""

_PATHS = {"Exact": PathTest.EXACT, "PathPrefix": PathTest.PREFIX, "RegularExpression": PathTest.REGEX}
_VALUES = {"Exact": ValueTest.EXACT, "RegularExpression": ValueTest.REGEX}
_ANY = Match(PathTest.PREFIX, "/")
_HTTP_PROTOCOLS = frozenset({Protocol.UNKNOWN, Protocol.HTTP1, Protocol.HTTP2})


@dataclass(frozen=True, slots=True)
class Attached:
    """A route on a Server. Not `readable` refuses who selects it; not `matches_readable` all HTTP.

    `refusal` is its row in either case.
    """

    key: ObjectKey
    age: Age
    row: Route
    readable: bool
    matches_readable: bool
    refusal: Authorization


def attaches(kind: str, protocol: Protocol) -> bool:
    """Whether a route of that kind has an effect on a port of that protocol (semantics R1)."""
    return protocol in _HTTP_PROTOCOLS or (kind == "GRPCRoute" and protocol is Protocol.GRPC)


def attach(routes: Iterable[Object], protocol: Protocol) -> list[Attached]:
    """Return the routes that have an effect on a port, the oldest first, as they are given."""
    attached: list[Attached] = []
    patterns = 0
    for route in routes:
        if not attaches(route.key.kind, protocol):
            continue
        row = route_row(route)
        patterns += _patterns(row)
        attached.append(_attached(route, row, within=patterns <= MOST_PATTERNS))
    return attached


def route_row(route: Object) -> Route:
    """Return the row of a route. Where one match can't be read, none counts (decision record 2, U5)."""
    spec = _spec(route)
    kind = RouteKind.GRPC if route.key.kind == "GRPCRoute" else RouteKind.HTTP
    rules = spec.rules if spec is not None and not spec.match_unreadable else ()
    return Route(
        route.key.text,
        route.key.at("spec"),
        kind,
        tuple(sorted(set(() if spec is None else spec.hostnames))),
        tuple(RouteRule(_matches(rule.matches)) for rule in rules),
    )


def hangs_on_unread_ports_only(protocols: Iterable[Protocol]) -> bool:
    """Whether the Servers that a route names speak, by protocol, `opaque` and `TLS` only (semantics T3)."""
    found = set(protocols)
    return bool(found) and found <= UNREAD


def _spec(route: Object) -> RouteSpec[Any] | None:
    return route.spec if isinstance(route, Resource) and isinstance(route.spec, RouteSpec) else None


def _attached(route: Object, row: Route, within: bool) -> Attached:
    spec = _spec(route)
    known = spec is not None and not spec.parents_unreadable and not spec.match_unreadable
    readable = spec is not None and spec.readable
    return Attached(route.key, age_of(route), row, readable, known and within, refusal(route, Level.ROUTE))


def _matches(written: Iterable[HTTPMatch | GRPCMatch]) -> tuple[Match, ...]:
    found = tuple(_grpc(match) if isinstance(match, GRPCMatch) else _http(match) for match in written)
    return found or (_ANY,)


def _http(match: HTTPMatch) -> Match:
    return Match(
        _PATHS[match.path.type],
        match.path.value,
        match.method or "",
        _named(match.headers),
        _named(match.query_params),
    )


def _grpc(match: GRPCMatch) -> Match:
    headers = _named(match.headers)
    service = match.method.service if match.method else None
    method = match.method.method if match.method else None
    if service is not None and method is not None:
        return Match(PathTest.EXACT, f"/{service}/{method}", headers=headers)
    if service is not None:
        return Match(PathTest.PREFIX, f"/{service}", headers=headers)
    if method is not None:
        return Match(PathTest.LAST_SEGMENT, method, headers=headers)
    return Match(PathTest.PREFIX, "/", headers=headers)


def _named(written: Iterable[HeaderMatch | QueryMatch]) -> tuple[NamedMatch, ...]:
    found = (NamedMatch(each.name, _VALUES[each.type], each.value) for each in written)
    return tuple(sorted(found, key=lambda match: match.name))


def _patterns(row: Route) -> int:
    """How many regular expressions a route has."""
    matches = [match for rule in row.rules for match in rule.matches]
    paths = sum(1 for match in matches if match.path_test is PathTest.REGEX)
    values = sum(
        1 for match in matches for each in (*match.headers, *match.query) if each.test is ValueTest.REGEX
    )
    return paths + values
