"""`status.parents` of Gateway API's routes: our entries, beside those of other controllers.

The list is written as a whole (it is atomic), so it is read before and guarded by the resourceVersion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from policyd.index.world import Object
from policyd.model.finding import Finding
from policyd.model.names import LINKERD_POLICY, POLICYD
from policyd.resources.references import canonical
from policyd.status.conditions import Condition, message_of
from policyd.status.reasons import (
    ACCEPTED,
    DOING_WELL,
    NO_PARENT,
    REFS_RESOLVED,
    ends_acceptance,
    rank,
    reason_of,
)

CONTROLLER = "policyd.dev/policyd"
"""Our `controllerName`."""
MOST_PARENTS = 32
"""As many as Gateway API takes."""
RESOLVED_REFS = "ResolvedRefs"
_SERVERS = frozenset({(POLICYD, "Server"), (LINKERD_POLICY, "Server")})
_FIELDS = ("group", "kind", "namespace", "name", "sectionName", "port")
_FORBIDDEN = "RefNotPermitted"


class ParentStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One entry; of those that aren't ours only the controller's name is looked at."""

    controller_name: str = ""
    parent_ref: dict[str, Any] = {}
    conditions: tuple[Condition, ...] = ()


Entry = tuple[dict[str, Any], tuple[tuple[str, bool, str, str], ...]]
"""A parentRef as written, and (type, holds, reason, message) of its conditions."""


def parents_wanted(found: Object, findings: Iterable[Finding]) -> tuple[Entry, ...]:
    """Return what is to be said of each parentRef of a route that names a Server."""
    told = sorted(dict.fromkeys(findings), key=rank)
    return tuple(
        (ref, (_accepted(index, told), _resolved(index, told))) for index, ref in _server_refs(found)
    )


def _server_refs(found: Object) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yield the parentRefs that name Servers and have a name, as they were written."""
    spec = found.document.content.get("spec")
    refs = spec.get("parentRefs") if isinstance(spec, Mapping) else None
    for index, ref in enumerate(refs[:MOST_PARENTS] if isinstance(refs, list) else ()):
        if isinstance(ref, Mapping) and isinstance(ref.get("name"), str):
            group, kind = ref.get("group"), ref.get("kind")
            named = isinstance(group, str) and isinstance(kind, str) and canonical(group, kind, _SERVERS)
            if named:
                yield index, {field: ref[field] for field in _FIELDS if field in ref}


def _concerns(finding: Finding, index: int) -> bool:
    """Whether a finding is about this parent, or about the route with all its parents."""
    place = f"spec.parentRefs[{index}]"
    here = finding.field == place or finding.field.startswith(f"{place}.")
    return here or not finding.field.startswith("spec.parentRefs[")


def _accepted(index: int, told: Sequence[Finding]) -> tuple[str, bool, str, str]:
    against = [each for each in told if _concerns(each, index) and ends_acceptance(each)]
    if not against:
        return ACCEPTED, True, DOING_WELL.name, DOING_WELL.means
    reason = reason_of(against[0]).name
    return ACCEPTED, False, NO_PARENT.name if reason == "TargetNotFound" else reason, message_of(against)


def _resolved(index: int, told: Sequence[Finding]) -> tuple[str, bool, str, str]:
    against = [each for each in told if _concerns(each, index) and each.code == _FORBIDDEN]
    if not against:
        return RESOLVED_REFS, True, REFS_RESOLVED.name, REFS_RESOLVED.means
    return RESOLVED_REFS, False, _FORBIDDEN, message_of(against)


def parents_now(
    wanted: Sequence[Entry], there: Sequence[Mapping[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """Return the whole list: others' entries as they are and where they are, ours as wanted."""
    others = [dict(each) for each in there if each.get("controllerName") != CONTROLLER]
    before = [each for each in map(_ours, there) if each is not None]
    room = max(0, MOST_PARENTS - len(others))
    return others + [_entry(ref, told, before, generation, now) for ref, told in wanted[:room]]


def _ours(entry: Mapping[str, Any]) -> ParentStatus | None:
    if entry.get("controllerName") != CONTROLLER:
        return None
    try:
        return msgspec.convert(entry, ParentStatus)
    except msgspec.ValidationError:
        return None


def _entry(
    ref: dict[str, Any],
    told: Iterable[tuple[str, bool, str, str]],
    before: Iterable[ParentStatus],
    generation: int,
    now: str,
) -> dict[str, Any]:
    former = next((each for each in before if each.parent_ref == ref), ParentStatus())
    since = {(each.type, each.status): each.last_transition_time for each in former.conditions}
    conditions = []
    for type_, holds, reason, message in told:
        status = "True" if holds else "False"
        at = since.get((type_, status)) or now
        condition = Condition(type_, status, reason, message, at, generation)
        conditions.append(msgspec.to_builtins(condition))
    return {"parentRef": ref, "controllerName": CONTROLLER, "conditions": conditions}
