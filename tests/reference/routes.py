"""HTTPRoutes and GRPCRoutes: reading, selection, and what a route touches [R1-R5, A5, U5]."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from tests.reference.conditions import header_name, header_values, host_matches, host_pattern, query_values
from tests.reference.gate import HttpRequest, is_grpc
from tests.reference.paths import folded, has_prefix, policy_path
from tests.reference.reading import Unreadable, fields, items, text

GATEWAY = "gateway.networking.k8s.io"
SERVER_GROUPS = ("policy.linkerd.io", "policyd.dev")
HTTP_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect")
GRPC_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier")
REGEX_BYTES, REGEXES_OF_A_SERVER, RE2_REPEATS = 1024, 64, 1_000


@dataclass
class Named:
    """A header or query parameter that a match asks for."""

    name: str
    value: str
    regex: bool


@dataclass
class Match:
    path_test: str = "prefix"
    path: str = "/"
    method: str = ""
    headers: list[Named] = field(default_factory=list)
    query: list[Named] = field(default_factory=list)

    def regexes(self) -> int:
        return (self.path_test == "regex") + sum(named.regex for named in self.headers + self.query)


@dataclass
class Route:
    """`unreadable` as U5 says; `whole`: a match can't be read, so all HTTP is refused."""

    name: str
    age: tuple[Any, ...]
    namespace: str
    grpc: bool
    parents: list[tuple[str, str]]
    hosts: list[str] = field(default_factory=list)
    rules: list[list[Match]] = field(default_factory=list)
    unreadable: bool = False
    whole: bool = False


def full_match(pattern: str, value: Any) -> bool:
    """RE2 syntax with ASCII classes; the whole value must match [V7]."""
    if isinstance(value, bytes):
        return re.fullmatch(pattern.encode(), value) is not None
    return re.fullmatch(pattern, value, re.ASCII) is not None


def _counts(pattern: str) -> list[int]:
    return [int(count) for pair in re.findall(r"\{(\d+)(?:,(\d*))?\}", pattern) for count in pair if count]


def regex(value: Any) -> str:
    """RE2 syntax, at most 1,024 bytes and 1 MiB compiled (here: as many repetitions as fit surely) [V7]."""
    pattern = text(value)
    try:
        re.compile(pattern)
    except re.error as error:
        raise Unreadable(f"{pattern!r}: {error}") from error
    counts = _counts(pattern)
    if any(count > RE2_REPEATS for count in counts):
        raise Unreadable(f"{pattern!r} repeats more often than RE2 does")
    # Written out, every counted repetition is as long as that.
    if math.prod(counts) > 20_000:
        raise Unreadable(f"{pattern!r} compiles to more than 1 MiB")
    if len(pattern.encode()) > REGEX_BYTES or re.search(r"\(\?[=!<]|\\[1-9]", pattern):
        raise Unreadable(f"{pattern!r} isn't RE2 of at most {REGEX_BYTES} bytes")
    return pattern


def _named(value: Any, *, header: bool) -> Named:
    entry = fields(value, "name", "type", "value")
    name = header_name(entry.get("name")) if header else text(entry.get("name"))
    kind = entry.get("type", "Exact")
    if kind == "RegularExpression":
        return Named(name, regex(entry.get("value")), True)
    if kind != "Exact" or not isinstance(entry.get("value"), str):
        raise Unreadable(f"type {kind!r}")
    return Named(name, entry["value"], False)


def _distinct(found: list[Named]) -> list[Named]:
    """Of several entries of one name the first counts, as Gateway API says."""
    return [
        one for place, one in enumerate(found) if one.name not in [earlier.name for earlier in found[:place]]
    ]


def _http_match(value: Any) -> Match:
    entry = fields(value, "path", "headers", "queryParams", "method")
    path = fields(entry.get("path", {}), "type", "value")
    kind, written = path.get("type", "PathPrefix"), path.get("value", "/")
    match = Match(method=entry.get("method", ""))
    if kind == "RegularExpression":
        match.path_test, match.path = "regex", regex(written)
    elif kind in ("Exact", "PathPrefix"):
        match.path_test = "exact" if kind == "Exact" else "prefix"
        try:
            match.path = policy_path(text(written))
        except ValueError as error:
            raise Unreadable(f"path {written!r}") from error
    else:
        raise Unreadable(f"path type {kind!r}")
    if match.method and not re.fullmatch(r"[A-Z]{1,32}", text(match.method)):
        raise Unreadable(f"method {match.method!r}")
    match.headers = _distinct([_named(item, header=True) for item in items(entry.get("headers", []), 0)])
    match.query = _distinct([_named(item, header=False) for item in items(entry.get("queryParams", []), 0)])
    return match


def _grpc_match(value: Any) -> Match:
    """Exact `/service/method`, PathPrefix `/service/`, or a last segment [R2]."""
    entry = fields(value, "method", "headers")
    method = fields(entry.get("method", {}), "type", "service", "method")
    if method.get("type", "Exact") != "Exact" or (
        "method" in entry and not {"service", "method"} & set(method)
    ):
        raise Unreadable("method")
    service, name = method.get("service"), method.get("method")
    match = Match(method="POST")
    for part in (service, name):
        if part is not None and not re.fullmatch(r"[A-Za-z0-9_.]+", text(part)):
            raise Unreadable(f"{part!r}")
    if service and name:
        match.path_test, match.path = "exact", f"/{service}/{name}"
    elif service:
        match.path = f"/{service}/"
    elif name:
        match.path_test, match.path = "last", name
    match.headers = _distinct([_named(item, header=True) for item in items(entry.get("headers", []), 0)])
    return match


def _filters(rule: dict[str, Any], grpc: bool) -> None:
    for item in items(rule.get("filters") or [], 0):
        known = GRPC_FILTERS if grpc else HTTP_FILTERS
        if not isinstance(item, dict) or item.get("type") not in known:
            raise Unreadable("a filter that isn't implemented")
        member = item["type"][0].lower() + item["type"][1:]
        fields(item, "type", member)


def _read_rule(route: Route, rule: Any, own_group: bool) -> None:
    if not isinstance(rule, dict):
        raise Unreadable("rules: expected mappings")
    read = _grpc_match if route.grpc else _http_match
    try:
        written = items(rule.get("matches") or [], 0)
        route.rules.append([read(item) for item in written] or [read({})])
    except Unreadable:
        route.whole = True
        raise
    _filters(rule, route.grpc)
    if own_group:
        fields(rule, "matches", "filters", "backendRefs", "timeouts")


def _parents(spec: dict[str, Any], namespace: str) -> list[tuple[str, str]]:
    """Servers of the route's own namespace, as (group, name) [R1]."""
    found = []
    for parent in spec.get("parentRefs") or []:
        local = parent.get("namespace", namespace) == namespace
        plain = parent.get("port") is None and parent.get("sectionName") is None
        if parent.get("kind") == "Server" and parent.get("group") in SERVER_GROUPS and local and plain:
            found.append((parent["group"], parent["name"]))
    return found


def read_route(document: dict[str, Any], name: str, age: tuple[Any, ...]) -> Route:
    group = document["apiVersion"].split("/")[0]
    spec = document.get("spec") or {}
    namespace = document["metadata"].get("namespace", "default")
    route = Route(name, age, namespace, document["kind"] == "GRPCRoute", _parents(spec, namespace))
    own_group = group != GATEWAY
    if own_group and set(spec) - {"parentRefs", "hostnames", "rules"}:
        route.unreadable = True
    try:
        route.hosts = [host_pattern(item) for item in items(spec.get("hostnames") or [], 0)]
    except Unreadable:
        route.unreadable = route.whole = True
    for rule in spec.get("rules") or [{}]:
        try:
            _read_rule(route, rule, own_group)
        except Unreadable:
            route.unreadable = True
    if route.whole:
        route.rules = []
    return route


def _path_fits(match: Match, path: str) -> bool:
    if match.path_test == "exact":
        return path == match.path
    if match.path_test == "prefix":
        return has_prefix(path, match.path)
    if match.path_test == "last":
        segments = path.split("/")
        return len(segments) == 3 and segments[1] != "" and segments[2] == match.path
    return full_match(match.path, path)


def _value_fits(named: Named, value: Any) -> bool:
    if named.regex:
        return full_match(named.value, value)
    return bool(value == (named.value.encode() if isinstance(value, bytes) else named.value))


def _rest_fits(match: Match, request: HttpRequest, *, grant: bool) -> bool:
    """Headers and query: a match that selects needs every value, one that touches needs one [V2]."""
    quantifier = all if grant else any
    for named in match.headers:
        lines = header_values(request, named.name, elements=not grant)
        if not lines or not quantifier(_value_fits(named, value) for value in lines):
            return False
    for named in match.query:
        values = query_values(request, named.name)
        if not values or not quantifier(_value_fits(named, value) for value in values):
            return False
    return True


def _rank(match: Match, hosts: list[str], host: str) -> tuple[Any, ...]:
    """What R3 compares before age; greater is better."""
    fitting = [pattern for pattern in hosts if host_matches(pattern, host)]
    host_rank = max(((1, len(one)) if one.startswith("*") else (2, 0) for one in fitting), default=(0, 0))
    length = len(match.path)
    if match.path_test == "prefix":
        length = max(1, len(match.path.removesuffix("/")))
    path_rank = {"exact": (2, 0), "regex": (1, length), "last": (1, length), "prefix": (0, length)}
    return (host_rank, path_rank[match.path_test], bool(match.method), len(match.headers), len(match.query))


def select(routes: list[Route], request: HttpRequest) -> Route | None:
    """The route whose rule the request selects [R3]; of equals the first, as `routes` are in order of age."""
    best: tuple[tuple[Any, ...], Route] | None = None
    grpc = request.method == "POST" and is_grpc(request.headers)
    for route in routes:
        if route.hosts and not any(host_matches(pattern, request.host) for pattern in route.hosts):
            continue
        if route.grpc and not grpc:
            continue
        for match in (match for rule in route.rules for match in rule):
            fits = _path_fits(match, request.path) and match.method in ("", request.method)
            if not fits or not _rest_fits(match, request, grant=True):
                continue
            rank = _rank(match, route.hosts, request.host)
            if best is None or rank > best[0]:
                best = (rank, route)
    return best[1] if best else None


def _folded_match(match: Match) -> Match:
    if match.path_test == "regex":
        return match
    if match.path_test == "last":
        return Match("last", match.path.lower())
    return Match(match.path_test, folded(match.path))


def touches(route: Route, request: HttpRequest) -> bool:
    """Whether any match would match, whatever the host; a GRPCRoute counts by its path alone [A5, V5]."""
    for match in (match for rule in route.rules for match in rule):
        path = _path_fits(match, request.path) or _path_fits(_folded_match(match), folded(request.path))
        method = route.grpc or match.method in ("", request.method)
        if path and method and _rest_fits(match, request, grant=False):
            return True
    return False
