"""What is read of a record: the fields that it is found by. The record itself is kept as its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from policyd.audit.chain import WRONG_WRITER
from policyd.errors import ChainRefused

MOST_RECORD_BYTES = 64 * 1024
"""The longest record; the proxy cuts what clients send long before."""
MOST_TEXT = 512
"""Characters of an indexed field; the record has all of it."""

DENIAL, WOULD_DENY, LOST, CHAIN, TABLE = "denial", "would_deny", "lost", "chain", "table"
UNREADABLE = "unreadable"
"""Stands in the place of an event where the bytes are no such object; they are kept all the same."""
_OWN_EVENTS = frozenset({TABLE, UNREADABLE})


@dataclass(frozen=True, slots=True)
class Writer:
    """Whose chain it is, from the SVID of the stream's peer and the pod it stands for. "" where unknown."""

    identity: str
    pod_uid: str
    namespace: str
    pod: str
    workload: str


class _Peer(msgspec.Struct):
    ip: str | None = None
    identity: str | None = None


class _Request(msgspec.Struct):
    method: str | None = None
    path: str | None = None


class _Audit(msgspec.Struct):
    reason: str | None = None
    authorizations: tuple[str, ...] = ()


class _Line(msgspec.Struct):
    event: str = UNREADABLE
    time: str | None = None
    direction: str | None = None
    namespace: str | None = None
    pod: str | None = None
    workload: str | None = None
    service: str | None = None
    port: int | None = None
    id: str | None = None
    reason: str | None = None
    authorization: str | None = None
    route: str | None = None
    table: str | None = None
    facts: str | None = None
    count: int | None = None
    peer: _Peer | None = None
    request: _Request | None = None
    audit: _Audit | None = None


class Facets(msgspec.Struct, frozen=True):
    """The fields that a record is found, grouped and listed by; None where it has none.

    `reason` and `authorization` of a `would_deny` are those of its `audit`. `peer` is an identity, else an
    address.
    """

    event: str
    id: str | None = None
    time_millis: int | None = None
    direction: str | None = None
    namespace: str | None = None
    pod: str | None = None
    workload: str | None = None
    service: str | None = None
    port: int | None = None
    reason: str | None = None
    authorization: str | None = None
    route: str | None = None
    method: str | None = None
    path: str | None = None
    peer: str | None = None
    count: int | None = None
    table_version: str | None = None
    facts_version: str | None = None


COLUMNS = Facets.__struct_fields__
QUOTED = {name: f'"{name}"' for name in COLUMNS}
"""As statements name them: one is a word of SQL."""
_DECODER = msgspec.json.Decoder(_Line)


def read_facets(json: bytes) -> Facets:
    """Read a record's bytes; what is no record of ours is `unreadable`, and has nothing to be found by."""
    try:
        json.decode("utf-8")  # fields that are passed over are not looked at otherwise
        line = _DECODER.decode(json)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Facets(UNREADABLE)
    peer, request, audit = line.peer or _Peer(), line.request or _Request(), line.audit or _Audit()
    would = line.event == WOULD_DENY
    return Facets(
        event=_cut(line.event) or UNREADABLE,
        id=_cut(line.id),
        time_millis=_millis(line.time),
        direction=_cut(line.direction),
        namespace=_cut(line.namespace),
        pod=_cut(line.pod),
        workload=_cut(line.workload),
        service=_cut(line.service),
        port=_small(line.port),
        reason=_cut(audit.reason if would else line.reason),
        authorization=_cut(", ".join(audit.authorizations) or None if would else line.authorization),
        route=_cut(line.route),
        method=_cut(request.method),
        path=_cut(request.path),
        peer=_cut(peer.identity or peer.ip),
        count=_small(line.count),
        table_version=_cut(line.table),
        facts_version=_cut(line.facts),
    )


def refuse_foreign(facets: Facets, writer: Writer) -> None:
    """Raise ChainRefused where a record speaks of another's pod, or of what only policyd itself records."""
    if facets.event in _OWN_EVENTS and facets.event != UNREADABLE:
        raise ChainRefused(WRONG_WRITER, f"event {facets.event!r} is policyd's own")
    for name in ("namespace", "pod", "workload"):
        said, known = getattr(facets, name), getattr(writer, name)
        if said is not None and said != known:
            raise ChainRefused(WRONG_WRITER, f"{name} {said!r:.100} in a chain of {known!r:.100}")


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:MOST_TEXT]


def _small(number: int | None) -> int | None:
    """Return what SQLite can hold of a number."""
    return None if number is None else max(-(2**63), min(number, 2**63 - 1))


def _millis(text: str | None) -> int | None:
    """Return an RFC 3339 instant in ms since the epoch; None for anything else."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if at.tzinfo is None else round(at.timestamp() * 1000)
