"""A report that somebody else made, read back from its plain values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from policyd.errors import ResourceError
from policyd.explain.answer import Explanation, Miss
from policyd.explain.fix import Fix
from policyd.explain.history import LastChange
from policyd.explain.manifests import Place
from policyd.explain.past import Past
from policyd.explain.question import Caller, Question
from policyd.explain.report import NearMiss, Report
from policyd.model.names import parse_workload

_NOTHING = dict.fromkeys(
    ("id", "status", "grpcStatus", "server", "route", "authorization", "origin", "facts", "audit")
)


def report_of(data: Mapping[str, Any], trust_domain: str) -> Report:
    """Return the report that `Report.data` gave. Raises ResourceError where it is none."""
    try:
        return _report(data, trust_domain)
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise ResourceError(f"the answer is no explanation: {error}") from error


def _report(data: Mapping[str, Any], trust_domain: str) -> Report:
    decision = msgspec.convert({**data, "nearMisses": ()}, Explanation)
    history = data.get("history") or {}
    now = data.get("now")
    fix = data.get("fix")
    question = Question(
        int(data["port"]), datetime.now(UTC), Caller(decision.peer.ip, decision.peer.identity), {"tcp": {}}
    )
    return Report(
        Place(parse_workload(data["workload"]), None, None),
        question,
        trust_domain,
        decision,
        str(data["why"]),
        dict(data["written"]),
        tuple(_near(each) for each in data["nearMisses"]),
        None if fix is None else msgspec.convert(fix, Fix),
        msgspec.convert(history, LastChange) if "at" in history else None,
        None if now is None else _now(now, decision),
        tuple((now or {}).get("unknown") or ()),
        msgspec.convert(history["past"], Past) if history.get("past") else None,
    )


def _near(data: Mapping[str, Any]) -> NearMiss:
    return NearMiss(msgspec.convert(dict(data), Miss), data.get("written"), tuple(data.get("why") or ()))


def _now(data: Mapping[str, Any], decision: Explanation) -> Explanation:
    """Return the present decision as far as it is told; nothing else of it is shown."""
    peer = msgspec.to_builtins(decision.peer)
    return msgspec.convert({**_NOTHING, "step": decision.step, "peer": peer, **data}, Explanation)
