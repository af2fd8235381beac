"""From what was seen to what is wrong: a canary that doesn't come to what it should, and what that means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyd.canary.evidence import Evidence, Heard
from policyd.canary.flock import CANARIES, Canary
from policyd.checkup.check import Reported, Result, error, warning
from policyd.explain.answer import Decision

CATEGORY = "canaries"
_AROUND = (
    "interception isn't working: see `kubectl logs -c policyd-redirect` and `-c policyd-validate` of a "
    "meshed pod, and what else writes the pods' nftables"
)
_OTHER_TABLE = "the proxy doesn't enforce what is written: see `policyctl status`, and policyd's log"
_UNHEARD = "does the server's proxy run? Else look at network policies, and at what stands between them"


def judged(evidence: Evidence, expected: Mapping[str, Decision]) -> list[Reported]:
    """Return a line for each canary."""
    return [Reported(CATEGORY, each.does, _judged(each, evidence, expected[each.name])) for each in CANARIES]


def _judged(canary: Canary, evidence: Evidence, expected: Decision) -> Result:
    if not expected.reason.startswith(canary.reason):
        by = f" by {expected.authorization}" if expected.authorization else ""
        return warning(
            f"nothing is proved: here it is to be {expected.reason}{by}",
            "a policy for the whole cluster concerns the canaries, too",
        )
    heard = evidence.heard.get(canary.name)
    if heard is None:
        why = evidence.missing.get(canary.role, "its pod told nothing in time")
        return error(f"not tried: {why}", f"the pod `{canary.role}` must run and have its proxy")
    if heard.status is None:
        return error(f"no answer: {heard.error}", _UNHEARD)
    record = evidence.records.get(heard.decision or "")
    if heard.past_the_proxy:
        return error(f"it reached the application past its proxy, from {heard.source}", _AROUND)
    if heard.application is not None:
        return _came_through(canary, heard)
    return _not_granted(heard, record) if canary.allowed else _refused(canary, heard, record, expected)


def _came_through(canary: Canary, heard: Heard) -> Result:
    if canary.allowed:
        return Result("ok", f"{heard.status} in {heard.millis} ms")
    return error(f"the application answered {heard.status}: {canary.otherwise}", _OTHER_TABLE)


def _not_granted(heard: Heard, record: Mapping[str, Any] | None) -> Result:
    if heard.decision is None:
        return error(f"{heard.status}, from somebody who is neither the server nor a proxy", _UNHEARD)
    why = f"{record.get('reason')}, decided by {record.get('pod')}" if record else "not recorded"
    told = f"refused with {heard.status} ({why}), though explain says that it is allowed"
    return error(told, f"`policyctl explain {heard.decision}`; {_OTHER_TABLE}")


def _refused(canary: Canary, heard: Heard, record: Mapping[str, Any] | None, expected: Decision) -> Result:
    if heard.decision is None:
        return error(f"{heard.status}, but no proxy of ours said it: there is no decision's id", _UNHEARD)
    if record is None:
        told = f"{heard.status}, but decision {heard.decision} isn't recorded anywhere"
        return error(told, "denials can't be explained: see the proxy's log")
    if heard.status != canary.status or not _agree(record, expected):
        return error(
            f"refused with {heard.status} as {_said(record)}; explain says {canary.status} {_said(expected)}",
            f"`policyctl explain {heard.decision}`; {_OTHER_TABLE}",
        )
    return Result("ok", f"{heard.status} {expected.reason}, as explain says")


def _agree(record: Mapping[str, Any], expected: Decision) -> bool:
    return (record.get("reason"), record.get("authorization")) == (expected.reason, expected.authorization)


def _said(told: Mapping[str, Any] | Decision) -> str:
    reason, by = (
        (told.reason, told.authorization)
        if isinstance(told, Decision)
        else (told.get("reason"), told.get("authorization"))
    )
    return f"{reason} by {by}" if by else str(reason)
