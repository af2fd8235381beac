"""Sentences: why a decision came out as it did, and what each near miss lacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyd.compile.rows import Access, Condition, ConditionSubject, Effect
from policyd.compile.table import CompiledTable
from policyd.explain.answer import Explanation, Miss
from policyd.explain.manifests import Manifests
from policyd.explain.question import Question
from policyd.explain.readable import (
    ACCESS,
    DEFAULT_WORDS,
    ReadableRule,
    condition_text,
    identities_text,
    identity_text,
    instant_text,
    networks_text,
    port_of,
    route_text,
    rule_at,
    short_name,
)

_GATE = "the gate refuses the request before any policy"
_PROTOCOL = "the port takes no such bytes: a rule reads HTTP there, or its Server names another protocol"


_OUTSIDE_TABLE = {
    "policy_stale": "the rule table was older than MeshDefaults.maxTableAge allows",
    "overloaded": "the proxy was at one of its limits",
    "engine_error": "the engine failed, and what can't be decided is refused",
    "peer_rejected": "the peer's certificate wasn't valid at that time, or was revoked",
}


def unlike_replayed(recorded: Explanation, again: Explanation, detail: object) -> str:
    """Return why a recorded decision isn't what its table comes to: what decided isn't in the record."""
    known = _OUTSIDE_TABLE.get(recorded.reason, f"it was refused as {recorded.reason}")
    told = f" ({detail})" if detail else ""
    return f"{known}{told}; its rule table alone comes to {again.verdict} ({again.reason})"


def because(manifests: Manifests, table: CompiledTable | None, asked: Question, told: Explanation) -> str:
    """Return why the decision came out as it did, in one sentence."""
    if table is None or told.step == 1:
        return _before_policy(told)
    rule = None if told.rule is None else rule_at(table, told.rule)
    if rule is not None:
        return _rule_decided(manifests, rule, told)
    if told.step == 12:
        return _default_decided(table, asked, told)
    sentences = {
        2: gate_text(told),
        3: "it is a probe that the pod declares, from where its kubelet is",
        4: _PROTOCOL if told.reason == "protocol_refused" else "the peer's identity is revoked or expired",
        8: f"{short_name(told.server or '')} has routes, and none of them takes {request_text(told)}",
    }
    return sentences.get(told.step, told.reason)


def _before_policy(told: Explanation) -> str:
    if told.reason == "policy_stale":
        return "the rule table is older than MeshDefaults.maxTableAge allows"
    return "no rule table exists for this workload: `policyctl check` says why"


def gate_text(told: Explanation) -> str:
    """Return which rule of the gate refused, and where."""
    return f"{_GATE}: rule {told.reason.partition(':')[2]}{_gate_place(told.gate)}"


def _gate_place(gate: Mapping[str, Any] | None) -> str:
    if gate is None:
        return ""
    field = f" in {gate['field']}" if gate.get("field") else ""
    return f", at byte {gate['offset']}{field}"


def _rule_decided(manifests: Manifests, rule: ReadableRule, told: Explanation) -> str:
    name = short_name(rule.authorization)
    scope = f"{rule.what}{f' when {rule.when}' if rule.when else ''}"
    if rule.effect is Effect.REFUSE:
        return f"{name} can't be read, so it refuses {rule.what}{_problem(manifests, rule.authorization)}"
    if rule.effect is Effect.REQUIRE:
        return f"Require {name} asks for {rule.who}, for {scope}; the caller is {caller_text(told, rule.own)}"
    if rule.effect is Effect.DENY and told.reason == "no_identity":
        return f"Deny {name} names {rule.who}, for {scope}; who shows no identity might be one of these"
    verb = "grants" if rule.effect is Effect.ALLOW else "refuses"
    return f"{rule.effect.name.capitalize()} {name} {verb} {rule.who}, for {scope}"


def _problem(manifests: Manifests, name: str) -> str:
    found = manifests.object_named(name)
    errors = [finding for finding in found.findings if finding.severity == "error"] if found else []
    return f": {errors[0].text}" if errors else ""


def _default_decided(table: CompiledTable, asked: Question, told: Explanation) -> str:
    port = port_of(table, asked.port)
    whose = (
        f"{short_name(port.server)}'s accessPolicy"
        if port.server
        else "the default of ports without a Server"
    )
    if told.allowed:
        return f"{whose} is {ACCESS[port.access]}, which grants {DEFAULT_WORDS[port.access]}"
    grants = sum(rule.effect is Effect.ALLOW and not rule.audit for rule in port.rules)
    none = {
        0: "no Allow concerns this port",
        1: "the one Allow that concerns this port doesn't grant this",
    }.get(grants, f"none of the {grants} Allows that concern this port grants this")
    if port.access is Access.DENY:
        return f"{none}, and {whose} is deny"
    return f"{none}, and {whose}, {ACCESS[port.access]}, grants only {DEFAULT_WORDS[port.access]}"


def lacked(table: CompiledTable, miss: Miss, told: Explanation) -> list[str]:
    """Return a sentence for each dimension in which a grant missed the request."""
    rule = rule_at(table, miss.rule)
    return [] if rule is None else [_lack(rule, failed, told) for failed in miss.failed]


def _lack(rule: ReadableRule, failed: str, told: Explanation) -> str:
    if failed == "identity" and rule.identities is not None:
        named = identities_text(rule.identities, rule.own)
        return f"it names {named}; the caller is {caller_text(told, rule.own)}"
    if failed == "network" and rule.networks is not None:
        return f"it asks for an address in {networks_text(rule.networks)}; the caller is at {told.peer.ip}"
    if failed == "route" and rule.route is not None:
        chosen = f"selected {short_name(told.route)}" if told.route else "selected no route"
        return f"it is for {route_text(rule.route)} only; {request_text(told)} {chosen}"
    if failed == "expired":
        return f"it ended at {instant_text(rule.valid_until_millis)}"
    index = int(failed.partition(":")[2] or 0)
    if failed.startswith("condition:") and index < len(rule.conditions):
        condition = rule.conditions[index]
        return f"it asks for {condition_text(condition)}; {_had(condition, told.request)}"
    return failed


def _had(condition: Condition, request: Mapping[str, Any] | None) -> str:
    """Return what the request had of what a condition reads."""
    if request is None:
        return "these bytes are no HTTP request"
    subject = condition.subject.name.lower()
    if condition.subject is ConditionSubject.HEADER:
        values = [value for name, value in request["headers"] if name == condition.name]
        return f"the request has {', '.join(values)}" if values else "the request has no such header"
    if condition.subject is ConditionSubject.QUERY:
        return (
            f"the request's query is {request['query']!r}"
            if request.get("query")
            else "the request has no query"
        )
    return f"the request's {subject} is {request[subject]}"


def request_text(told: Explanation) -> str:
    """Return the request as it was decided on, in one line."""
    if told.request is None:
        return "this connection" if told.gate is None else "this request"
    return f"{told.request['method']} {told.request['target']}"


def caller_text(told: Explanation, own: str) -> str:
    """Return who asks."""
    return "without identity" if told.peer.identity is None else identity_text(told.peer.identity, own)
