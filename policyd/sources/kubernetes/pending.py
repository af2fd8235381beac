"""What a cluster said since the last batch, each object once."""

from __future__ import annotations

from policyd.model.names import ObjectKey
from policyd.sources.events import Added, AnyObject, Deleted, Event, Updated


class Pending:
    """Collects what objects are now; `drain` says how that differs from what was drained before."""

    def __init__(self) -> None:
        self.stirred = 0
        """Rises with every object taken."""
        self._now: dict[ObjectKey, AnyObject | None] = {}
        self._drained: set[ObjectKey] = set()

    def take(self, key: ObjectKey, found: AnyObject | None) -> None:
        """Take over that an object is now this one, or is gone (None)."""
        self._now[key] = found
        self.stirred += 1

    @property
    def is_empty(self) -> bool:
        return not self._now

    def drain(self) -> tuple[Event, ...]:
        """Return the changes in the order of the keys.

        What was deleted and made again in between is updated: another object, and never a mere addition.
        """
        now, self._now = self._now, {}
        events: list[Event] = []
        for key in sorted(now):
            found = now[key]
            if found is not None:
                events.append(Updated(found) if key in self._drained else Added(found))
                self._drained.add(key)
            elif key in self._drained:
                events.append(Deleted(key))
                self._drained.discard(key)
        return tuple(events)
