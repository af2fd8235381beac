"""Several folders as one: of an object that is in more than one the first folder's has effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policyd.index.world import Change
from policyd.model.names import ObjectKey
from policyd.sources.events import AnyObject, Batch, Deleted


class Merged:
    """What each folder holds, in the folders' order."""

    def __init__(self, folders: int) -> None:
        self._held: Sequence[dict[ObjectKey, AnyObject]] = [{} for _ in range(folders)]

    def take(self, folder: int, batch: Batch) -> list[Change]:
        """Take over a folder's batch; return what it changes in the whole."""
        touched: list[ObjectKey] = []
        for event in batch.events:
            if isinstance(event, Deleted):
                self._held[folder].pop(event.key, None)
            else:
                self._held[folder][event.key] = event.object
            touched.append(event.key)
        return [(key, self._effective(key)) for key in touched]

    def _effective(self, key: ObjectKey) -> AnyObject | None:
        return next((held[key] for held in self._held if key in held), None)

    def all(self) -> Iterable[AnyObject]:
        """Return every object that has effect."""
        keys = {key for held in self._held for key in held}
        return [found for found in map(self._effective, sorted(keys)) if found is not None]
