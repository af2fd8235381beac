"""The engine's answers as typed values, and where what they name was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from policyd.compile.table import CompiledTable
from policyd.explain.manifests import Manifests, Place
from policyd.explain.question import Question
from policyd.model.origin import Origin


class Audit(msgspec.Struct, frozen=True):
    """What the verdict would be if all Audit policies were enforced (semantics A6)."""

    verdict: str
    reason: str
    authorizations: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, rename="camel"):
    """A decision as the format reference has it (`A decision in JSON`)."""

    id: str | None
    verdict: str
    reason: str
    status: int | None
    grpc_status: int | None
    server: str | None
    route: str | None
    authorization: str | None
    origin: str | None
    table: str | None
    facts: str | None
    audit: Audit | None

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"


class Miss(msgspec.Struct, frozen=True):
    """An Allow that nearly granted. `failed` are its dimensions that don't hold (decision record 2, D6)."""

    rule: int
    authorization: str
    origin: str
    failed: tuple[str, ...]


class Peer(msgspec.Struct, frozen=True):
    """The other end as it was decided on."""

    ip: str
    identity: str | None


class Explanation(Decision, frozen=True, rename="camel"):
    """A decision with what was looked at. `rule` is the deciding row's place in the table."""

    step: int
    peer: Peer
    rule: int | None = None
    request: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    near_misses: tuple[Miss, ...] = ()


def decide(manifests: Manifests, place: Place, question: Question) -> Decision:
    """Decide on the table that is enforced at a place."""
    compiled = manifests.table_of(place)
    if compiled is None:
        return _without_table(question)
    return msgspec.json.decode(manifests.loaded(compiled).decide(question.encode()), type=Decision)


def explain(manifests: Manifests, place: Place, question: Question) -> Explanation:
    """Decide, and say what was looked at. The decision is the same as `decide`'s."""
    return explain_on(manifests, manifests.table_of(place), question)


def explain_on(manifests: Manifests, compiled: CompiledTable | None, question: Question) -> Explanation:
    """Do the same on a given table."""
    if compiled is None:
        return _without_table(question)
    return msgspec.json.decode(manifests.loaded(compiled).explain(question.encode()), type=Explanation)


def _without_table(question: Question) -> Explanation:
    """Return the only decision that needs no table: that there is none (semantics D1, D5)."""
    return Explanation(
        id=None,
        verdict="deny",
        reason="no_policy_loaded",
        status=_no_table_status(question),
        grpc_status=14 if _is_grpc(question) else None,
        server=None,
        route=None,
        authorization=None,
        origin=None,
        table=None,
        facts=None,
        audit=None,
        step=1,
        peer=Peer(question.caller.ip, question.caller.identity),
    )


def _no_table_status(question: Question) -> int | None:
    if not question.is_http:
        return None
    return 200 if _is_grpc(question) else 503


def _is_grpc(question: Question) -> bool:
    """Return whether it is answered as gRPC, which a content type is enough for (semantics D5, R2)."""
    headers = question.request.get("http", {}).get("headers", ())
    types = [value.lower() for name, value in headers if name.lower() == "content-type"]
    return "grpc" in question.request or any(re.match(r"application/grpc([+;]|$)", value) for value in types)


def written_at(manifests: Manifests, origin: str | None) -> Origin:
    """Return the file, line and column of an origin in a table (`group/kind/namespace/name:field`)."""
    if not origin:
        return Origin()
    name, _, field = origin.partition(":")
    for key, found in manifests.world.objects.items():
        if key.at("") == name:
            return found.position(field) if field else found.origin
    return Origin()


def object_at(manifests: Manifests, name: str | None) -> Origin:
    """Return where an object begins that a decision names."""
    found = manifests.object_named(name) if name else None
    return Origin() if found is None else found.origin
