"""What a source says: objects came, changed and went, several at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.resources.base import Resource, Unreadable

AnyObject = Resource[Any] | Unreadable


@dataclass(frozen=True, slots=True)
class Added:
    """An object that was not there before."""

    object: AnyObject

    @property
    def key(self) -> ObjectKey:
        return self.object.key


@dataclass(frozen=True, slots=True)
class Updated:
    """An object that is not what it was."""

    object: AnyObject

    @property
    def key(self) -> ObjectKey:
        return self.object.key


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object that is gone."""

    key: ObjectKey


Event = Added | Updated | Deleted


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything from one file save, or from at most 50 ms: it becomes one table (design §8).

    `revision` rises by one with each batch of a source; `findings` are what is wrong with the source itself
    now: files that are no YAML, objects written twice. A batch may hold findings and no events. `versions`
    say of each kind up to where everything is in this batch or was in one before, where the source knows.
    """

    revision: int
    events: tuple[Event, ...] = ()
    findings: tuple[Finding, ...] = ()
    versions: tuple[tuple[str, int], ...] = ()
