"""Which file holds which object, and what changes when a file does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.sources.events import Added, AnyObject, Deleted, Event, Updated
from policyd.sources.files import duplicate

_Holder = tuple[tuple[str, ...], int, AnyObject]
"""The file's path in parts, the place in it, the object: sorted, the first has effect."""


class Holdings:
    """The objects of all files. Of an object written twice the first by path, then by place, has effect."""

    def __init__(self) -> None:
        self._by_file: dict[str, tuple[AnyObject, ...]] = {}
        self._holders: dict[ObjectKey, list[_Holder]] = {}
        self._crowded: set[ObjectKey] = set()
        self._before: dict[ObjectKey, AnyObject | None] = {}

    def replace(self, file: str, objects: tuple[AnyObject, ...]) -> None:
        """From now on a file holds these objects; none where it is gone."""
        parts = Path(file).parts
        held: dict[ObjectKey, list[_Holder]] = {each.key: [] for each in self._by_file.get(file, ())}
        for index, each in enumerate(objects):
            held.setdefault(each.key, []).append((parts, index, each))
        for key, mine in held.items():
            self._before.setdefault(key, self._effective(key))
            others = [holder for holder in self._holders.get(key, ()) if holder[0] != parts]
            self._keep(key, sorted(others + mine, key=lambda holder: holder[:2]))
        if objects:
            self._by_file[file] = objects
        else:
            self._by_file.pop(file, None)

    def _keep(self, key: ObjectKey, holders: list[_Holder]) -> None:
        if holders:
            self._holders[key] = holders
        else:
            self._holders.pop(key, None)
        if len(holders) > 1:
            self._crowded.add(key)
        else:
            self._crowded.discard(key)

    def _effective(self, key: ObjectKey) -> AnyObject | None:
        holders = self._holders.get(key)
        return holders[0][2] if holders else None

    def drain(self) -> tuple[Event, ...]:
        """Tell what changed since the last time, in the order of the keys.

        An object that only moved counts as updated.
        """
        before, self._before = self._before, {}
        changes = ((key, before[key], self._effective(key)) for key in sorted(before))
        return tuple(event for change in changes for event in _event(*change))

    def duplicates(self) -> tuple[Finding, ...]:
        """Return a finding for each object that has no effect because it is written elsewhere too."""
        crowded = (self._holders[key] for key in sorted(self._crowded))
        return tuple(duplicate(loser[2], holders[0][2]) for holders in crowded for loser in holders[1:])


def _event(key: ObjectKey, before: AnyObject | None, after: AnyObject | None) -> Iterable[Event]:
    if after is None:
        if before is not None:
            yield Deleted(key)
    elif before is None:
        yield Added(after)
    elif before.document != after.document:
        yield Updated(after)
