"""Rows of a table with what they point to, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from policyd.compile.rows import (
    Access,
    ClusterPart,
    Condition,
    ConditionTest,
    Effect,
    IdentitySet,
    Match,
    NetworkSet,
    PathTest,
    Pools,
    Port,
    Route,
    RouteKind,
    Rule,
    Scope,
    ValueTest,
    Who,
    WorkloadPart,
)
from policyd.compile.table import CompiledTable
from policyd.resources.instants import at_millis, rfc3339

ACCESS = {
    Access.DENY: "deny",
    Access.AUDIT: "audit",
    Access.ALL_UNAUTHENTICATED: "all-unauthenticated",
    Access.ALL_AUTHENTICATED: "all-authenticated",
    Access.CLUSTER_UNAUTHENTICATED: "cluster-unauthenticated",
    Access.CLUSTER_AUTHENTICATED: "cluster-authenticated",
}
DEFAULT_WORDS = {
    Access.DENY: "nobody",
    Access.AUDIT: "everybody (recorded)",
    Access.ALL_UNAUTHENTICATED: "everybody",
    Access.ALL_AUTHENTICATED: "every identity of our trust domain",
    Access.CLUSTER_UNAUTHENTICATED: "everybody from the cluster networks",
    Access.CLUSTER_AUTHENTICATED: "every identity of our trust domain from the cluster networks",
}


@dataclass(frozen=True, slots=True)
class ReadableRule:
    """A row whose indices are resolved. None in `identities` or `networks`: not asked."""

    effect: Effect
    level: str
    authorization: str
    origin: str
    audit: bool
    scope: Scope
    route: Route | None
    identities: IdentitySet | None
    anonymous_too: bool
    networks: NetworkSet | None
    conditions: tuple[Condition, ...]
    valid_until_millis: int
    own: str
    """The trust domain that identities are told without."""

    @property
    def action(self) -> str:
        """`allow`, `deny`, `require` or `refuse`, and whether it is only recorded."""
        return f"{self.effect.name.lower()}{' (audit)' if self.audit else ''}"

    @property
    def who(self) -> str:
        """Whom it names, in words."""
        if self.effect is Effect.REFUSE:
            return "everybody: it can't be read"
        identity = "anyone" if self.identities is None else identities_text(self.identities, self.own)
        also = " or no identity" if self.anonymous_too else ""
        where = "" if self.networks is None else f" from {networks_text(self.networks)}"
        return f"{identity}{also}{where}"

    @property
    def when(self) -> str:
        """Its conditions and its end, in words; empty where there are none."""
        parts = [condition_text(each) for each in self.conditions]
        if self.valid_until_millis:
            parts.append(f"until {instant_text(self.valid_until_millis)}")
        return " and ".join(parts)

    @property
    def what(self) -> str:
        """Which requests are in its scope, in words."""
        if self.scope is Scope.HTTP:
            return "every HTTP request"
        if self.route is None:
            return "everything"
        chosen = "" if self.scope is Scope.ROUTE_SELECTED else " (whichever route is selected)"
        return f"{route_text(self.route)}{chosen}"


@dataclass(frozen=True, slots=True)
class ReadablePort:
    """Ports alike, their rules in order of attribution, the cluster's last. No number: all other ports."""

    numbers: tuple[int, ...]
    protocol: str
    server: str
    access: Access
    rules: tuple[ReadableRule, ...]
    routes: tuple[Route, ...]
    probes: tuple[str, ...]

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.numbers)) or "other"


def ports_of(table: CompiledTable) -> list[ReadablePort]:
    """Return the ports that have a row of their own, those alike as one; last the one for all others."""
    cluster = tuple(_cluster_rules(table.cluster))
    rules = list(_workload_rules(table.workload, table.cluster.trust_domain))
    alike: dict[Port, list[int]] = {}
    for port in table.workload.ports:
        alike.setdefault(replace(port, number=0), []).append(port.number)
    groups = [*alike.items(), (table.workload.other, [])]
    return [
        ReadablePort(
            tuple(numbers),
            port.protocol.name,
            port.server,
            port.access,
            tuple(rules[index] for index in port.rules) + cluster,
            tuple(table.workload.routes[index] for index in port.routes),
            tuple(_probes(port)),
        )
        for port, numbers in groups
    ]


def port_of(table: CompiledTable, number: int) -> ReadablePort:
    """Return the port of a number, or the one that stands for it."""
    ports = ports_of(table)
    return next((port for port in ports if number in port.numbers), ports[-1])


def rule_at(table: CompiledTable, index: int) -> ReadableRule | None:
    """Return the row at a place in the table: the workload's rules, then the cluster's."""
    rules = [*_workload_rules(table.workload, table.cluster.trust_domain), *_cluster_rules(table.cluster)]
    return rules[index] if 0 <= index < len(rules) else None


def _probes(port: Port) -> Iterator[str]:
    for probe in port.probes:
        yield f"{probe.kind.name.lower()} {probe.target or probe.service}".strip()


def _workload_rules(part: WorkloadPart, own: str) -> Iterator[ReadableRule]:
    for rule in part.rules:
        scoped = rule.scope in {Scope.ROUTE_SELECTED, Scope.ROUTE_MATCHED}
        yield _resolve(rule, part.pools, part.routes[rule.route] if scoped else None, own)


def _cluster_rules(part: ClusterPart) -> Iterator[ReadableRule]:
    return (_resolve(rule, part.pools, None, part.trust_domain) for rule in part.rules)


def _resolve(rule: Rule, pools: Pools, route: Route | None, own: str) -> ReadableRule:
    return ReadableRule(
        rule.effect,
        rule.level.name.lower(),
        rule.authorization,
        rule.origin,
        rule.audit,
        rule.scope,
        route,
        pools.identities[rule.identities] if rule.identity is Who.SET else None,
        rule.anonymous_too,
        pools.networks[rule.networks] if rule.network is Who.SET else None,
        tuple(pools.conditions[index] for index in rule.conditions),
        rule.valid_until_millis,
        own,
    )


def identities_text(found: IdentitySet, own: str) -> str:
    """Return whom a set names; an empty one names nobody."""
    if not found.any_of:
        return "nobody"
    named = ", ".join(identity_text(form, own) for form in found.any_of)
    taken_out = ", ".join(identity_text(form, own) for form in found.except_)
    return f"{named} except {taken_out}" if taken_out else named


def identity_text(form: str, own: str) -> str:
    """Return a form of identity, shorter where it is an account: `books/webapp`, `books/*`."""
    if form == "*":
        return "every identity"
    domain, _, path = form.removeprefix("spiffe://").partition("/")
    if path == "*":
        return f"every identity of {domain}"
    parts = path.split("/")
    if len(parts) == 4 and parts[0] == "ns" and parts[2] == "sa":
        return f"{parts[1]}/{parts[3]}" if domain == own else f"{parts[1]}/{parts[3]} of {domain}"
    return form


def networks_text(found: NetworkSet) -> str:
    """Return the addresses of a set; an empty one holds none."""
    if not found.any_of:
        return "nowhere"
    blocks = (
        f"{block.cidr} except {', '.join(block.except_)}" if block.except_ else block.cidr
        for block in found.any_of
    )
    return ", ".join(blocks)


def condition_text(condition: Condition) -> str:
    """Return an item of `when` as a phrase: `header x-env in (a, b)`."""
    subject = condition.subject.name.lower()
    named = f"{subject} {condition.name}" if condition.name else subject
    values = ", ".join(condition.values)
    if condition.test is ConditionTest.IN:
        return f"{named} in ({values})"
    if condition.test is ConditionTest.NOT_IN:
        return f"{named} not in ({values})"
    if condition.test is ConditionTest.PREFIX:
        return f"{named} under {values}" if subject == "path" else f"{named} beginning {values}"
    return f"{named} present" if condition.test is ConditionTest.EXISTS else f"{named} absent"


def route_text(route: Route) -> str:
    """Return a route's requests: `GET /books/*, POST /books`."""
    matches = (match_text(route, match) for rule in route.rules for match in rule.matches)
    hosts = f" on {', '.join(route.hosts)}" if route.hosts else ""
    return f"{', '.join(dict.fromkeys(matches)) or 'nothing that can be read'}{hosts}"


def match_text(route: Route, match: Match) -> str:
    """Return one match as people write requests."""
    method = "gRPC" if route.kind is RouteKind.GRPC else match.method
    named = [f"{each.name}{_test_sign(each.test)}{each.value}" for each in (*match.headers, *match.query)]
    with_ = f" with {', '.join(named)}" if named else ""
    return f"{method} {path_text(match)}".strip() + with_


def path_text(match: Match) -> str:
    """Return the path of a match: `/a`, `/a/*`, `~ /a.*`, `/*/Method`."""
    if match.path_test is PathTest.EXACT:
        return match.path
    if match.path_test is PathTest.PREFIX:
        return f"{match.path.rstrip('/')}/*"
    return f"/*/{match.path}" if match.path_test is PathTest.LAST_SEGMENT else f"~ {match.path}"


def _test_sign(test: ValueTest) -> str:
    return "=" if test is ValueTest.EXACT else "~"


def instant_text(millis: int) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return rfc3339(at_millis(millis))


def short_name(name: str) -> str:
    """Return a name in a table without its group: `authorizationpolicy/books/readers`."""
    kind, slash, rest = name.partition("/")
    return f"{kind.partition('.')[0]}{slash}{rest}"


def listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def short_identity(identity: str | None) -> str:
    """Return `namespace/serviceaccount` of an identity of our form; others whole; "" for none."""
    parts = (identity or "").split("/")
    if len(parts) == 7 and (parts[3], parts[5]) == ("ns", "sa"):
        return f"{parts[4]}/{parts[6]}"
    return identity or ""


def printable(text: str) -> str:
    """Return text without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
