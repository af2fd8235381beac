"""The API server's audit log: JSON lines of `audit.k8s.io/v1` Events, of which writes to our kinds are told.

A log may be many gigabytes: it is read line by line, and nothing of it is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, BinaryIO, Final, Literal
from urllib.parse import parse_qs

import msgspec

from policyd.errors import SourceError
from policyd.model.names import ObjectKey
from policyd.resources.instants import rfc3339
from policyd.resources.kinds import key_at

MOST_LINE: Final = 16 * 1024 * 1024
"""Bytes. The API server takes bodies of 3 MiB (`MaxRequestBodyBytes`), and logs them with their answers."""
MOST_TEXT: Final = 1024
"""Letters of a user's name, and of an agent: to as many the API server itself cuts agents."""
MOST_ADDRESSES: Final = 8
VERBS: Final = frozenset({"create", "update", "patch", "delete"})
"""Of writes that name their object. `deletecollection` doesn't say what it found."""
_COMPLETE: Final = "ResponseComplete"
"""The only stage at which it is known whether anything came of it."""
_BEGINS: Final = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1"'
"""What the API server begins every line with."""
_MOST_MANAGER: Final = 128
"""Bytes of a field manager (`FieldManagerMaxLength`)."""
_CHUNK: Final = 1024 * 1024
_MOST_PROBLEM: Final = 200

_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """What the log tells of one write.

    `user` is who counted; `impersonated_by` who asked to count as that. Of `source_ips` only the last is the
    connection's: a client says the others itself. `user_agent` is what it calls itself.
    """

    audit_id: str = msgspec.field(name="auditID")
    verb: str
    time: str
    """When the request arrived; RFC 3339, to the millisecond."""
    user: str
    impersonated_by: str | None = None
    source_ips: tuple[str, ...] = msgspec.field(name="sourceIPs", default=())
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """A write that succeeded. What it made got its time between `received` and `ended`, by the same clock."""

    key: ObjectKey
    manager: str
    """The field manager that it counts as."""
    received: datetime
    ended: datetime
    entry: Entry


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _Object(msgspec.Struct, frozen=True, rename="camel"):
    api_group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class _Answer(msgspec.Struct, frozen=True):
    code: int = 0


class _DeleteOptions(msgspec.Struct, frozen=True, rename="camel"):
    dry_run: list[str] | None = None


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    kind: Literal["Event"]
    api_version: Literal["audit.k8s.io/v1"]
    audit_id: str = msgspec.field(name="auditID")
    stage: str
    verb: str
    request_uri: str = msgspec.field(name="requestURI")
    user: _User
    impersonated_user: _User | None = None
    source_ips: list[str] | None = msgspec.field(name="sourceIPs", default=None)
    user_agent: str = ""
    object_ref: _Object | None = None
    response_status: _Answer | None = None
    request_object: msgspec.Raw = msgspec.Raw(b"null")
    request_received_timestamp: _Instant | None = None
    stage_timestamp: _Instant | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)


def writes(log: BinaryIO, name: str) -> Iterator[Write]:
    """Yield the writes to objects of our kinds that a log tells of. `name` is what errors call it.

    Raises SourceError where a line is no audit Event. A last line that isn't whole is still being written.
    """
    number = 0
    while line := log.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE and line.startswith(_BEGINS):
            _pass_over(log, line)  # the answer to a list, say: no write's is as long
            continue
        if not line.strip():
            continue
        try:
            event = _EVENT.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if _is_torn(line, error):
                return
            expected = "expected an Event of audit.k8s.io/v1 as one line of JSON"
            raise SourceError(f"{name}:{number}: {expected}: {_problem(line, error)}") from error
        found = _write(event)
        if found is not None:
            yield found


def _problem(line: bytes, error: Exception) -> str:
    """Say what is wrong with a line, without letters that a terminal would obey."""
    if len(line) > MOST_LINE:
        return f"longer than {MOST_LINE} bytes"
    return str(error)[:_MOST_PROBLEM].encode("unicode_escape").decode()


def _is_torn(line: bytes, error: Exception) -> bool:
    """Whether a line is the beginning of one: whole JSON that says something else isn't."""
    is_json = isinstance(error, msgspec.ValidationError)
    return not is_json and not line.endswith(b"\n") and len(line) <= MOST_LINE and line.startswith(b"{")


def _pass_over(log: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = log.readline(_CHUNK)


def _write(event: _Event) -> Write | None:
    named, received, ended = event.object_ref, event.request_received_timestamp, event.stage_timestamp
    if event.stage != _COMPLETE or event.verb not in VERBS or named is None or named.subresource:
        return None
    if received is None or ended is None or not named.name or not _succeeded(event):
        return None
    key = key_at(named.api_group, named.resource, named.namespace, named.name)
    query = parse_qs(event.request_uri.partition("?")[2])
    if key is None or "dryRun" in query or _is_dry_deletion(event):
        return None
    return Write(
        key, _manager(query.get("fieldManager"), event.user_agent), received, ended, _entry(event, received)
    )


def _succeeded(event: _Event) -> bool:
    return event.response_status is not None and 200 <= event.response_status.code < 300


def _is_dry_deletion(event: _Event) -> bool:
    """Whether a deletion's body says so, as kubectl's does: it is in logs of level Request and above only."""
    if event.verb != "delete":
        return False
    try:
        options = msgspec.json.decode(event.request_object, type=_DeleteOptions | None)
    except msgspec.ValidationError:
        return False
    return options is not None and bool(options.dry_run)


def _manager(said: list[str] | None, agent: str) -> str:
    """Return the field manager as the API server does: what was said, else how the agent's name begins."""
    if said and said[0]:
        return said[0]
    name = "".join(letter for letter in agent.partition("/")[0] if letter.isprintable())
    return name.encode()[:_MOST_MANAGER].decode("utf-8", "ignore")


def _entry(event: _Event, received: datetime) -> Entry:
    real, counted = event.user, event.impersonated_user
    return Entry(
        audit_id=_cut(event.audit_id),
        verb=event.verb,
        time=rfc3339(received, "milliseconds"),
        user=_cut((counted or real).username),
        impersonated_by=None if counted is None else _cut(real.username),
        source_ips=tuple(_cut(each) for each in (event.source_ips or ())[-MOST_ADDRESSES:]),
        user_agent=_cut(event.user_agent) or None,
    )


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"
