"""What might turn a denial into an allow: one small change each, none of them verified yet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from policyd.compile.rows import Condition, ConditionSubject, ConditionTest
from policyd.explain.answer import Miss
from policyd.explain.authentication_edits import (
    SPEC,
    admit_account,
    admit_address,
    admit_identity,
    except_address,
    except_identity,
    except_item_identity,
    references,
)
from policyd.explain.edit import add_entry, append_item, set_scalar
from policyd.explain.new_objects import new_allow
from policyd.explain.readable import condition_text, instant_text
from policyd.explain.situation import Candidate, Object, Situation, written
from policyd.model.names import POLICYD
from policyd.model.origin import FieldPath

EXTENSION = timedelta(days=1)
"""By how much an expired grant is extended."""
MOST_ROUTES = 3


def candidates(situation: Situation) -> Iterator[Candidate]:
    """Yield changes that might help; the step at which the denial was made says which (semantics D1)."""
    step = situation.explanation.step
    if step == 5:
        found = situation.named(situation.explanation.authorization)
        if found is not None and found.key.kind == "AuthorizationPolicy":
            yield from _only_record(situation, found)
    elif step in {6, 9}:
        yield from _lift_deny(situation)
    elif step in {7, 10}:
        yield from _meet_require(situation)
    elif step == 8:
        yield from _give_route(situation)
    elif step == 12:
        for miss in situation.explanation.near_misses:
            yield from _complete(situation, miss)
        yield from new_allow(situation)


def _complete(situation: Situation, miss: Miss) -> Iterator[Candidate]:
    """Make the first failed dimension of a near miss hold; the next round looks at the others."""
    found = situation.named(miss.authorization)
    if found is None or not miss.failed:
        return
    failed = miss.failed[0]
    if failed == "identity":
        yield from _admit_to(situation, found)
    elif failed == "network":
        for authentication in references(situation.manifests.world, found, "NetworkAuthentication"):
            yield from admit_address(situation, authentication)
        if found.key.kind == "ServerAuthorization":
            yield from admit_address(situation, found, ("spec", "client"))
    elif failed == "expired":
        until = instant_text(round((situation.question.at + EXTENSION).timestamp()) * 1000)
        summary = f"extend {_called(found)} until {until}"
        yield from situation.edit(found, ("spec", "validUntil"), partial(set_scalar, value=until), summary)
    elif failed == "route":
        rule = situation.rule(miss.rule)
        route = situation.named(rule.route.name) if rule and rule.route else None
        if route is not None:
            yield from _add_match(situation, route)
    else:
        yield from _satisfy(situation, found, miss, int(failed.partition(":")[2]))


def _admit_to(situation: Situation, policy: Object) -> Iterator[Candidate]:
    for authentication in references(situation.manifests.world, policy, "MeshTLSAuthentication"):
        yield from admit_identity(situation, authentication)
    if policy.key.kind == "ServerAuthorization":
        yield from admit_account(situation, policy)


def _satisfy(situation: Situation, found: Object, miss: Miss, index: int) -> Iterator[Candidate]:
    """Add the request's value to the `in` of a condition that fails."""
    rule = situation.rule(miss.rule)
    if rule is None or index >= len(rule.conditions):
        return
    condition = rule.conditions[index]
    value = _value(situation, condition)
    if condition.test is not ConditionTest.IN or value is None:
        return
    subject = condition.subject.name.lower()
    for place, item in enumerate(written(found, ("spec", "when")) or ()):
        test = item.get(subject) if isinstance(item, dict) else None
        named = isinstance(test, dict) and str(test.get("name", "")).lower() == condition.name.lower()
        if isinstance(test, dict) and named and "in" in test:
            path: FieldPath = ("spec", "when", place, subject, "in")
            summary = f"let {_called(found)} mean {value} too, besides {condition_text(condition)}"
            yield from situation.edit(found, path, partial(append_item, item=value), summary)


def _value(situation: Situation, condition: Condition) -> str | None:
    """Return the request's value of what a condition reads; None where there isn't exactly one."""
    request = situation.explanation.request
    if request is None:
        return None
    if condition.subject in {ConditionSubject.METHOD, ConditionSubject.PATH, ConditionSubject.HOST}:
        return str(request[condition.subject.name.lower()])
    if condition.subject is ConditionSubject.HEADER:
        values = [value for name, value in request["headers"] if name == condition.name]
        return values[0] if len(values) == 1 else None
    return None


def _lift_deny(situation: Situation) -> Iterator[Candidate]:
    name = situation.explanation.authorization or ""
    found = situation.named(name)
    if found is None:
        return
    item = _item_path(found, name)
    if item is not None:
        yield from except_item_identity(situation, found, item)
        yield from except_address(situation, found, item)
        if situation.identity is None and written(found, (*item, "withoutIdentity")) is not None:
            ignore = partial(set_scalar, value="Ignore")
            summary = f"let {name.partition('#')[2]} of MeshDefaults ignore peers without identity"
            yield from situation.edit(found, (*item, "withoutIdentity"), ignore, summary)
        yield from _only_record(situation, found, item)
        return
    for authentication in references(situation.manifests.world, found, "MeshTLSAuthentication"):
        yield from except_identity(situation, authentication)
    for authentication in references(situation.manifests.world, found, "NetworkAuthentication"):
        yield from except_address(situation, authentication)
    yield from _leave_path_out(situation, found)
    yield from _only_record(situation, found)


def _meet_require(situation: Situation) -> Iterator[Candidate]:
    name = situation.explanation.authorization or ""
    found = situation.named(name)
    if found is None:
        return
    item = _item_path(found, name)
    if item is not None:
        if written(found, (*item, "identities")) is not None:
            yield from admit_identity(situation, found, item)
        if written(found, (*item, "networks")) is not None:
            yield from admit_address(situation, found, item)
        yield from _only_record(situation, found, item)
        return
    yield from _admit_to(situation, found)
    for authentication in references(situation.manifests.world, found, "NetworkAuthentication"):
        yield from admit_address(situation, authentication)
    yield from _leave_path_out(situation, found)
    yield from _only_record(situation, found)


def _leave_path_out(situation: Situation, found: Object) -> Iterator[Candidate]:
    """Take the request's path out of the scope of a Deny or Require of our group."""
    request = situation.explanation.request
    if request is None or found.key.group != POLICYD or not isinstance(written(found, SPEC), dict):
        return
    item = {"path": {"notIn": [request["path"]]}}
    summary = f"leave {request['path']} out of {_called(found)}"
    if written(found, ("spec", "when")):
        yield from situation.edit(found, ("spec", "when"), partial(append_item, item=item), summary)
    else:
        yield from situation.edit(found, SPEC, partial(add_entry, key="when", value=[item]), summary)


def _only_record(situation: Situation, found: Object, at: FieldPath = SPEC) -> Iterator[Candidate]:
    """Let a policy record what it would refuse."""
    if found.key.group != POLICYD:
        return
    summary = (
        f"let {_called(found)}{'' if at == SPEC else f' ({at[1]}[{at[2]}])'} only record what it would refuse"
    )
    if written(found, (*at, "mode")) is not None:
        yield from situation.edit(found, (*at, "mode"), partial(set_scalar, value="Audit"), summary)
    else:
        yield from situation.edit(found, at, partial(add_entry, key="mode", value="Audit"), summary)


def _give_route(situation: Situation) -> Iterator[Candidate]:
    """Let one of the port's routes take the request."""
    port = situation.port
    for row in (port.routes if port else ())[:MOST_ROUTES]:
        route = situation.named(row.name)
        if route is not None:
            yield from _add_match(situation, route)


def _add_match(situation: Situation, route: Object) -> Iterator[Candidate]:
    match = _match_of(situation, route.key.kind)
    if match is None or not written(route, ("spec", "rules", 0, "matches")):
        return
    request = situation.explanation.request or {}
    summary = f"let {_called(route)} take {request.get('method')} {request.get('path')}"
    path: FieldPath = ("spec", "rules", 0, "matches")
    yield from situation.edit(route, path, partial(append_item, item=match), summary)


def _match_of(situation: Situation, kind: str) -> dict[str, Any] | None:
    request = situation.explanation.request
    if request is None:
        return None
    if kind == "GRPCRoute":
        call = situation.question.request.get("grpc")
        return {"method": {"service": call["service"], "method": call["method"]}} if call else None
    return {"path": {"type": "Exact", "value": request["path"]}, "method": request["method"]}


def _item_path(found: Object, name: str) -> FieldPath | None:
    """Return the place of the item of MeshDefaults that `#deny/<name>` or `#deny[<index>]` means."""
    _, mark, item = name.partition("#")
    if not mark:
        return None
    field, slash, label = item.partition("/")
    if not slash:
        field, _, index = item.removesuffix("]").partition("[")
        return ("spec", field, int(index))
    items = written(found, ("spec", field)) or ()
    place = next(
        (i for i, each in enumerate(items) if isinstance(each, dict) and each.get("name") == label), None
    )
    return None if place is None else ("spec", field, place)


def _called(found: Object) -> str:
    return f"{found.key.kind} {'/'.join(part for part in (found.key.namespace, found.key.name) if part)}"
