"""The last denials of all proxies, so that one can be explained by its id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

MOST_RECORDS = 2000


class Records:
    """By id; the oldest go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def keep(self, record: Mapping[str, Any]) -> None:
        """Remember one; a record without an id is of no use to anybody."""
        identifier = record.get("id")
        if isinstance(identifier, str):
            self._kept[identifier] = dict(record)
            while len(self._kept) > MOST_RECORDS:
                self._kept.popitem(last=False)

    def find(self, identifier: str) -> dict[str, Any] | None:
        """Return the record of an id, or of the one id that ends or begins so."""
        if identifier in self._kept:
            return self._kept[identifier]
        close = [each for each in self._kept if len(identifier) >= 4 and identifier in each]
        return self._kept[close[0]] if len(close) == 1 else None

    def last(self, count: int) -> list[dict[str, Any]]:
        """Return the newest, the oldest of them first."""
        return list(self._kept.values())[-count:] if count > 0 else []
