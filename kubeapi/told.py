"""What a reflector tells: objects that came, changed or went, and as of when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class ObjectName(NamedTuple):
    """An object's name among those of its kind; `namespace` is "" where the kind has none."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Undecodable:
    """An object of a known name that the decoder can't read: its JSON, and why."""

    body: bytes
    problem: str


@dataclass(frozen=True, slots=True)
class Applied(Generic[T]):
    """An object as it is now, new or changed. Another `uid` than before: another object of the same name."""

    name: ObjectName
    uid: str
    object: T | Undecodable


@dataclass(frozen=True, slots=True)
class Gone:
    """An object that is no longer there."""

    name: ObjectName
    uid: str


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """What differs from what was told before: after a list all that differs, else one change or none.

    With it everything up to the resource version `version` has been told.
    """

    version: int
    changes: tuple[Applied[T] | Gone, ...]
