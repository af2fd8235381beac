"""A request's path and parameters as a question; what isn't understood is refused, never passed over."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from policyd.audit.queries import IDENTIFIER
from policyd.audit.record import DENIAL, WOULD_DENY
from policyd.audit.store import Filter
from policyd.audit_api.names import DENIALS, EXPLANATION, GROUP, GROUP_VERSION, GROUPS, MOST_LISTED, VERSION
from policyd.audit_api.refusal import Refusal
from policyd.audit_api.reviews import Deed
from policyd.model.names import is_namespace_name
from policyd.resources.instants import read_instant

DEFAULT_SINCE: Final = timedelta(hours=24)
"""How far back a list goes that doesn't say how far: as `policyctl denials`."""
MOST_TEXT: Final = 1024
"""Characters of a parameter."""
_ROOT = f"/apis/{GROUP_VERSION}/"
_AGO = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FIELDS = frozenset({"reason", "workload", "peer"})
_OF_CLIENTS = frozenset(
    {"resourceVersion", "resourceVersionMatch", "includeObject", "pretty", "allowWatchBookmarks", "timeout"}
)
"""Parameters of every list in the API that mean nothing more here, or are read elsewhere."""

Verb = Literal["get", "list", "watch"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: of one denial, or of all that a filter means."""

    verb: Verb
    resource: str
    namespace: str | None
    """None: all namespaces."""
    name: str = ""
    subresource: str = ""
    filter: Filter = field(default_factory=Filter)
    limit: int = MOST_LISTED
    identifier: str | None = None
    """The beginning of an id that is looked for."""
    version: str = ""
    """The `resourceVersion` that a watch begins from."""
    seconds: int | None = None
    """How long a watch is wanted."""
    bookmarks: bool = False
    gaps: bool = False
    """Whether a watch tells of what was lost, too: `policyctl` wants to know, kubectl can't read it."""

    @property
    def deed(self) -> Deed:
        """What somebody must be allowed to."""
        return Deed(
            self.verb, GROUP, self.resource, self.namespace or "", self.name, self.subresource, VERSION
        )


def is_resource(path: str) -> bool:
    """Whether a path is about denials."""
    return path.startswith(_ROOT)


def asked_of(path: str, parameters: Sequence[tuple[str, str]], now: datetime) -> Asked:
    """Read a request. Raises Refusal: 404 for a path that leads nowhere, 400 or 422 for parameters."""
    named = _placed(path.removeprefix(_ROOT).split("/"))
    given: dict[str, str] = {}
    for key, value in parameters:
        if key in given or len(value) > MOST_TEXT:
            raise Refusal(400, f"{key:.50}: expected once, with at most {MOST_TEXT} characters")
        given[key] = value
    if named.name:
        return named
    return _listed(named, given, now)


def _placed(parts: Sequence[str]) -> Asked:
    """Read `[namespaces/NS/]RESOURCE[/NAME[/PART]]`."""
    namespace = None
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
        if not is_namespace_name(namespace):
            raise Refusal(404, f"{namespace!r:.100} can't be a namespace")
    resource, *rest = parts
    whole = (len(rest) == 0) or (len(rest) <= 2 and namespace is not None and resource == DENIALS)
    if resource not in (DENIALS, GROUPS) or not whole or rest[1:] not in ([], [EXPLANATION]):
        raise Refusal(404, "the server could not find the requested resource")
    if not rest:
        return Asked("list", resource, namespace)
    return Asked("get", resource, namespace, rest[0], "".join(rest[1:]))


def _listed(named: Asked, given: Mapping[str, str], now: datetime) -> Asked:
    fields = {**given, **_selected(given.get("fieldSelector", ""))}
    if given.get("labelSelector"):
        raise Refusal(
            400, "labelSelector: denials have no labels; fieldSelector may name reason, workload, peer"
        )
    if _is_true(given, "sendInitialEvents"):
        raise Refusal(422, "sendInitialEvents: expected a list and a watch from there")
    watching = _is_true(given, "watch")
    if watching and named.resource != DENIALS:
        raise Refusal(405, f"{named.resource} can't be watched")
    asked = replace(
        named,
        verb="watch" if watching else "list",
        filter=_filter(named, fields, now),
        limit=_number(given, "limit") or MOST_LISTED,
        identifier=_identifier(fields.get("id")),
        version=given.get("resourceVersion", ""),
        seconds=_number(given, "timeoutSeconds") or None,
        bookmarks=_is_true(given, "allowWatchBookmarks"),
        gaps=_is_true(given, "gaps"),
    )
    unknown = fields.keys() - _KNOWN - _OF_CLIENTS
    if unknown:
        raise Refusal(400, f"{min(unknown):.50}: no such parameter; there are {', '.join(sorted(_KNOWN))}")
    return _continued(asked, given["continue"]) if given.get("continue") else asked


_KNOWN = frozenset(
    {
        *(
            "since",
            "until",
            "reason",
            "workload",
            "peer",
            "wouldBe",
            "id",
            "limit",
            "continue",
            "watch",
            "gaps",
        ),
        *("fieldSelector", "labelSelector", "timeoutSeconds", "sendInitialEvents"),
    }
)


def _filter(named: Asked, fields: Mapping[str, str], now: datetime) -> Filter:
    workload, reason, peer = (fields.get(key) or None for key in ("workload", "reason", "peer"))
    since, until = (_instant(fields.get(key), key, now) for key in ("since", "until"))
    if since is None and not fields.get("id"):
        since = _millis(now - DEFAULT_SINCE)
    events = (WOULD_DENY,) if _is_true(fields, "wouldBe") else (DENIAL,)
    return Filter(since, until, named.namespace, workload, reason, peer, events)


def _selected(selector: str) -> dict[str, str]:
    """Read a field selector: what parameters say, too, for clients that can give no others."""
    found = {}
    for part in filter(None, selector.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key.endswith("!"):
            raise Refusal(400, f"fieldSelector {part!r:.100}: expected FIELD=VALUE")
        key = {"metadata.name": "id"}.get(key, key)
        if key not in {*_FIELDS, "id", "since", "until", "wouldBe"}:
            raise Refusal(
                400, f"fieldSelector {key!r:.50}: expected reason, workload, peer, since, until, wouldBe"
            )
        found[key] = value.removeprefix("=")
    return found


def _instant(text: str | None, key: str, now: datetime) -> int | None:
    """Read an RFC 3339 instant, or how long ago: `15m`."""
    if not text:
        return None
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return _millis(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
    try:
        return _millis(read_instant(text))
    except ValueError as error:
        raise Refusal(400, f"{key}: {error}, or 15m, 2h, 7d") from error


def _identifier(text: str | None) -> str | None:
    if not text:
        return None
    if not IDENTIFIER.fullmatch(text):
        raise Refusal(400, f"id {text!r:.80}: expected an id, or at least 8 characters of its beginning")
    return text.lower()


def _number(given: Mapping[str, str], key: str) -> int:
    text = given.get(key) or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refusal(400, f"{key} {text!r:.50}: expected a number")
    return int(text)


def _is_true(given: Mapping[str, str], key: str) -> bool:
    text = given.get(key, "false")
    if text not in {"true", "1", "false", "0", ""}:
        raise Refusal(400, f"{key} {text!r:.50}: expected true or false")
    return text in {"true", "1"}


class _Token(msgspec.Struct, forbid_unknown_fields=True):
    """Where a list goes on: below a place, with the beginning that its first answer had."""

    before: int
    since: int | None


def token_of(asked: Asked, before: int) -> str:
    """Return `continue` for what lies below a place."""
    encoded = msgspec.json.encode(_Token(before, asked.filter.since))
    return base64.urlsafe_b64encode(encoded).decode()


def _continued(asked: Asked, token: str) -> Asked:
    try:
        found = msgspec.json.decode(base64.b64decode(token, b"-_", validate=True), type=_Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise Refusal(400, "continue: expected what an answer said") from error
    return replace(asked, filter=replace(asked.filter, before=found.before, since=found.since))


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def utc_now() -> datetime:
    """Return the time of requests."""
    return datetime.now(UTC)
