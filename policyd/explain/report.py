"""An explanation put together: decision, reason, near misses, smallest fix, last change of the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from policyd.compile.table import CompiledTable
from policyd.explain.answer import Explanation, Miss, explain_on, object_at, written_at
from policyd.explain.authentication_edits import references
from policyd.explain.fix import Fix, smallest_fix
from policyd.explain.history import LastChange, last_change
from policyd.explain.manifests import Manifests, Place
from policyd.explain.past import Asked, Past
from policyd.explain.question import Question
from policyd.explain.readable import rule_at
from policyd.explain.story import because, lacked


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A grant that nearly held, where it was written, and a sentence for each thing that it lacked."""

    miss: Miss
    written: str | None
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that `policyctl explain` says. `written`: where authorization, server and route were written."""

    place: Place
    question: Question
    trust_domain: str
    decision: Explanation
    why: str
    written: Mapping[str, str]
    near_misses: tuple[NearMiss, ...]
    fix: Fix | None
    history: LastChange | None
    now: Explanation | None = None
    """What it comes to on the manifests as they are now; None where that is `decision` itself."""
    unknown_now: tuple[str, ...] = ()
    """What the present table reads of such a request and nobody recorded: `now` may differ for it."""
    past: Past | None = None
    is_sought: bool = True
    """Whether a fix was looked for: where there are no files to mend, none is."""

    def data(self) -> dict[str, Any]:
        """Return it as plain values: a decision in JSON with what explain adds (format reference)."""
        plain: dict[str, Any] = msgspec.to_builtins(self.decision)
        misses = [
            {**msgspec.to_builtins(near.miss), "written": near.written, "why": list(near.why)}
            for near in self.near_misses
        ]
        return {
            **plain,
            "workload": self.place.workload.text,
            "port": self.question.port,
            "why": self.why,
            "written": dict(self.written),
            "nearMisses": misses,
            "fix": None if self.fix is None else msgspec.to_builtins(self.fix),
            "history": self._history(),
            "now": None if self.now is None else {**now_data(self.now), "unknown": list(self.unknown_now)},
        }

    def _history(self) -> dict[str, Any] | None:
        """Return the last change of the deciding place, and beside it what the kept tables say."""
        if self.history is None and self.past is None:
            return None
        change: dict[str, Any] = {} if self.history is None else msgspec.to_builtins(self.history)
        return change if self.past is None else {**change, "past": msgspec.to_builtins(self.past)}


def now_data(now: Explanation) -> dict[str, Any]:
    """Return what of the present decision is told beside the recorded one."""
    fields = ("verdict", "reason", "status", "server", "route", "authorization", "table")
    return {field: getattr(now, field) for field in fields}


def report(manifests: Manifests, place: Place, question: Question) -> Report:
    """Decide a question on the table that the manifests make, and say everything about it."""
    table = manifests.table_of(place)
    told = explain_on(manifests, table, question)
    fix = None if told.allowed else smallest_fix(manifests, place, question)
    return _assemble(manifests, place, question, table, told, fix)


def replay(manifests: Manifests, place: Place, question: Question, table: CompiledTable) -> Report:
    """Decide a recorded question on its own table; `now` and the fix are about the manifests as they are."""
    current = manifests.table_of(place)
    answer = replay_beside(manifests, place, question, table, current)
    allowed = answer.now is not None and answer.now.allowed
    fix = None if allowed or current is None else smallest_fix(manifests, place, question)
    return replace(answer, fix=fix)


def replay_beside(
    manifests: Manifests,
    place: Place,
    question: Question,
    table: CompiledTable,
    current: CompiledTable | None,
) -> Report:
    """Do the same, but for the fix, where `current` is what is enforced now, however it came about."""
    told = explain_on(manifests, table, question)
    now = explain_on(manifests, current, question)
    unknown = () if current is None else Asked(question, table).unknown_on(current)
    made = _assemble(manifests, place, question, table, told, None)
    return replace(made, now=now, unknown_now=unknown)


def unreplayed(manifests: Manifests, place: Place, question: Question, told: Explanation, why: str) -> Report:
    """Say what was recorded of a denial that no table decided: there is nothing to decide again."""
    return Report(place, question, manifests.compiler.trust_domain, told, why, {}, (), None, None)


def _assemble(
    manifests: Manifests,
    place: Place,
    question: Question,
    table: CompiledTable | None,
    told: Explanation,
    fix: Fix | None,
) -> Report:
    origin = written_at(manifests, told.origin)
    written = {
        "authorization": origin.text,
        "server": object_at(manifests, told.server).text,
        "route": object_at(manifests, told.route).text,
    }
    misses = () if table is None else tuple(_near(manifests, table, miss, told) for miss in told.near_misses)
    return Report(
        place,
        question,
        manifests.compiler.trust_domain,
        told,
        because(manifests, table, question, told),
        {name: text for name, text in written.items() if text},
        misses,
        fix,
        last_change(origin),
    )


def _near(manifests: Manifests, table: CompiledTable, miss: Miss, told: Explanation) -> NearMiss:
    whys = []
    for failed, why in zip(miss.failed, lacked(table, miss, told), strict=False):
        place = _place_of(manifests, table, miss, failed)
        whys.append(f"{why}  ({place})" if place else why)
    return NearMiss(miss, written_at(manifests, miss.origin).text or None, tuple(whys))


def _place_of(manifests: Manifests, table: CompiledTable, miss: Miss, failed: str) -> str:
    """Return where a failed dimension was written: in an authentication, the route or the policy."""
    policy = manifests.object_named(miss.authorization)
    if policy is None:
        return ""
    kinds = {"identity": "MeshTLSAuthentication", "network": "NetworkAuthentication"}
    if failed in kinds:
        found = next(references(manifests.world, policy, kinds[failed]), None)
        return (
            policy.position("spec.requiredAuthenticationRefs").text
            if found is None
            else found.position("spec").text
        )
    if failed == "route":
        rule = rule_at(table, miss.rule)
        route = manifests.object_named(rule.route.name) if rule and rule.route else None
        return "" if route is None else route.position("spec.rules").text
    return policy.position("spec.validUntil" if failed == "expired" else "spec.when").text
