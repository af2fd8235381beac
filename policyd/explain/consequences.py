"""What else a change of manifests allows: the rows of the new tables without those of the old."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from policyd.compile.rows import Access, Effect, IdentitySet, NetworkSet, Route, Scope
from policyd.compile.table import CompiledTable
from policyd.explain.readable import (
    DEFAULT_WORDS,
    ReadablePort,
    ReadableRule,
    condition_text,
    identities_text,
    networks_text,
    port_of,
    ports_of,
    route_text,
    short_name,
)
from policyd.model.names import WorkloadName

Tables = Mapping[WorkloadName, CompiledTable]


class AlsoAllows(msgspec.Struct, frozen=True, rename="camel"):
    """How more is allowed than before. `kind` is `granted`, `not_refused`, `routed` or `default`.

    `only_listed`: it is for identities that are written out one by one, nobody else.
    """

    kind: str
    workload: str
    ports: str
    who: str
    what: str
    when: str | None
    because: str
    text: str
    only_listed: bool = False


class Shown(NamedTuple):
    """The request that the change is for: what is granted to exactly this one isn't `else`."""

    workload: WorkloadName
    port: int
    identity: str | None
    method: str | None
    path: str | None


def also_allows(before: Tables, after: Tables, shown: Shown) -> list[AlsoAllows]:
    """Return what the tables after a change allow beyond those before it and the request it is for."""
    found: dict[AlsoAllows, None] = {}
    for name in sorted(after):
        old, new = before.get(name), after[name]
        if old is None or old.version == new.version:
            continue
        for port in ports_of(new):
            earlier = port_of(old, port.numbers[0] if port.numbers else 0)
            for each in _on_port(name, earlier, port, shown):
                found[each] = None
    return list(found)


def _on_port(
    name: WorkloadName, before: ReadablePort, after: ReadablePort, shown: Shown
) -> Iterator[AlsoAllows]:
    here = shown.workload == name and after.numbers == (shown.port,)
    for rule in _without(_grants(after), _grants(before)):
        more = _only_new(rule, [old for old in _grants(before) if old.origin == rule.origin])
        if not (here and _is_just(more, shown)):
            yield _say("granted", name, after, more, f"{more.who} may also call {more.what}{_when(more)}")
    for rule in _without(_refusals(before), _refusals(after)):
        text = f"{short_name(rule.authorization)} no longer holds: it concerned {rule.what} by {rule.who}"
        changed = next((new for new in _refusals(after) if new.origin == rule.origin), None)
        if changed is not None:
            text = _narrowed(rule, changed)
        yield _say("not_refused", name, after, rule, text)
    yield from _routed(name, before, after)
    if before.access is not after.access and after.access is not Access.DENY:
        text = f"the default becomes {DEFAULT_WORDS[after.access]}"
        yield AlsoAllows(
            "default",
            name.text,
            after.name,
            DEFAULT_WORDS[after.access],
            "everything",
            None,
            after.server,
            text,
        )


def _say(kind: str, name: WorkloadName, port: ReadablePort, rule: ReadableRule, text: str) -> AlsoAllows:
    place = f"{name.text} port {port.name}"
    return AlsoAllows(
        kind,
        name.text,
        port.name,
        rule.who,
        rule.what,
        rule.when or None,
        rule.authorization,
        f"{text} on {place}",
        _is_listed(rule.identities),
    )


def _is_listed(identities: IdentitySet | None) -> bool:
    return identities is not None and not any(form.endswith("*") for form in identities.any_of)


def _when(rule: ReadableRule) -> str:
    return f" when {rule.when}" if rule.when else ""


def _grants(port: ReadablePort) -> list[ReadableRule]:
    return [rule for rule in port.rules if rule.effect is Effect.ALLOW and not rule.audit]


def _refusals(port: ReadablePort) -> list[ReadableRule]:
    return [rule for rule in port.rules if rule.effect is not Effect.ALLOW and not rule.audit]


def _without(rules: Iterable[ReadableRule], others: Iterable[ReadableRule]) -> Iterator[ReadableRule]:
    known = list(others)
    return (rule for rule in rules if rule not in known)


def _only_new(rule: ReadableRule, old: list[ReadableRule]) -> ReadableRule:
    """Return what is new in a changed grant, where one dimension has grown and the others are the same."""
    for each in old:
        if _same_but(each, rule, "identities") and each.identities and rule.identities:
            return replace(rule, identities=_added_identities(each.identities, rule.identities))
        if _same_but(each, rule, "networks") and each.networks and rule.networks:
            return replace(rule, networks=_added_networks(each.networks, rule.networks))
        if _same_but(each, rule, "route") and each.route and rule.route:
            return replace(rule, route=_added_matches(each.route, rule.route))
    return rule


def _same_but(one: ReadableRule, other: ReadableRule, field: str) -> bool:
    nothing: dict[str, Any] = {field: None}
    return replace(one, **nothing) == replace(other, **nothing)


def _added_identities(old: IdentitySet, new: IdentitySet) -> IdentitySet:
    added = tuple(form for form in new.any_of if form not in old.any_of)
    freed = tuple(form for form in old.except_ if form not in new.except_)
    return IdentitySet((*added, *freed), new.except_) if added or freed else new


def _added_networks(old: NetworkSet, new: NetworkSet) -> NetworkSet:
    return NetworkSet(tuple(block for block in new.any_of if block not in old.any_of))


def _added_matches(old: Route, new: Route) -> Route:
    known = [match for rule in old.rules for match in rule.matches]
    rules = tuple(
        msgspec.structs.replace(rule, matches=tuple(match for match in rule.matches if match not in known))
        for rule in new.rules
    )
    return msgspec.structs.replace(new, rules=tuple(rule for rule in rules if rule.matches))


def _narrowed(old: ReadableRule, new: ReadableRule) -> str:
    """How a Deny or Require concerns less than before."""
    name = short_name(new.authorization)
    if old.identities != new.identities and old.identities and new.identities:
        more = _added_identities(old.identities, new.identities)
        if new.effect is Effect.REQUIRE:
            return f"{name} is now met by {identities_text(more, new.own)} as well, for {new.what}"
        out = IdentitySet(
            tuple(form for form in new.identities.except_ if form not in old.identities.except_)
        )
        return f"{name} no longer refuses {identities_text(out, new.own)}, for {new.what}"
    if old.networks != new.networks and old.networks and new.networks:
        verb = "is now met from" if new.effect is Effect.REQUIRE else "now concerns only"
        return f"{name} {verb} {networks_text(new.networks)}, for {new.what}"
    if old.conditions != new.conditions:
        fewer = [condition_text(each) for each in new.conditions if each not in old.conditions]
        return f"{name} now holds only when {' and '.join(fewer)}, for {new.what}, whoever calls"
    return f"{name} is another now: it concerns {new.what} by {new.who}"


def _routed(name: WorkloadName, before: ReadablePort, after: ReadablePort) -> Iterator[AlsoAllows]:
    """Yield requests that now have a route, and so fall under every grant of the port (semantics R4, A4)."""
    if not before.routes:
        return
    grants = [rule for rule in _grants(after) if rule.scope is Scope.PORT]
    if not grants and after.access is Access.DENY:
        return
    known = {route.name: route for route in before.routes}
    for route in after.routes:
        old = known.get(route.name)
        added = route if old is None else _added_matches(old, route)
        if added.rules and route != old:
            who = ", ".join(rule.who for rule in grants) or DEFAULT_WORDS[after.access]
            text = (
                f"{route_text(added)} now has a route, so {who} may call it on {name.text} port {after.name}"
            )
            yield AlsoAllows("routed", name.text, after.name, who, route_text(added), None, route.name, text)


def _is_just(rule: ReadableRule, shown: Shown) -> bool:
    """Whether a grant is for the request that was asked about and for no other.

    A grant by address alone never is: whoever calls from there has it, with an identity or without.
    """
    if shown.identity is None or rule.identities is None or rule.identities.any_of != (shown.identity,):
        return False
    values = {each.subject.name.lower(): each.values for each in rule.conditions}
    return values.get("method") == (shown.method,) and values.get("path") == (shown.path,)
