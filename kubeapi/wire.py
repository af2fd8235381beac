"""The JSON of lists and watches, as far as it is read; objects stay bytes."""

from __future__ import annotations

from typing import Literal

import msgspec

from kubeapi.errors import UNUSABLE, ApiError
from kubeapi.told import ObjectName

_INITIAL_END = "k8s.io/initial-events-end"


class ObjectMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What tells one state of one object from another."""

    name: str
    resource_version: str
    namespace: str = ""
    uid: str = ""

    @property
    def of(self) -> ObjectName:
        return ObjectName(self.namespace, self.name)


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """An object's metadata."""

    metadata: ObjectMeta


class _MarkMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str
    annotations: dict[str, str] | None = None


class Mark(msgspec.Struct, frozen=True):
    """A bookmark: no object changed up to this version but those that were told."""

    metadata: _MarkMeta

    @property
    def ends_list(self) -> bool:
        """Whether with it everything that is there has been told."""
        return (self.metadata.annotations or {}).get(_INITIAL_END) == "true"


class Event(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_EVENT = msgspec.json.Decoder(Event)
_ENVELOPE = msgspec.json.Decoder(Envelope)
_MARK = msgspec.json.Decoder(Mark)
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def event_of(line: bytes) -> Event:
    """Read a line of a watch. Raises ApiError."""
    try:
        return _EVENT.decode(line)
    except _FAULTS as error:
        raise _unusable("an event", error) from error


def meta_of(body: msgspec.Raw) -> ObjectMeta:
    """Read an object's metadata. Raises ApiError: of what has no name nothing can be said."""
    try:
        return _ENVELOPE.decode(body).metadata
    except _FAULTS as error:
        raise _unusable("an object", error) from error


def mark_of(body: msgspec.Raw) -> Mark:
    """Read a bookmark. Raises ApiError."""
    try:
        return _MARK.decode(body)
    except _FAULTS as error:
        raise _unusable("a bookmark", error) from error


def version_of(text: str) -> int:
    """Return a resource version as a number (KEP-5504). Raises ApiError where it is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise ApiError(200, UNUSABLE, f"resourceVersion {text[:40]!r}: expected a number")
    return int(text)


def _unusable(what: str, error: Exception) -> ApiError:
    return ApiError(200, UNUSABLE, f"{what} that can't be read: {error}")
