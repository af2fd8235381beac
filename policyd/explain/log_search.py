"""An explanation's changes of a cluster's objects, looked up in the API server's audit log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec

from policyd.compile.compiler import parse_origin
from policyd.explain.logged import BESIDE_TABLE, WHOLE_SECOND, Search, Sought, search
from policyd.explain.past import ObjectChange
from policyd.explain.report import Report
from policyd.model.origin import is_of_cluster
from policyd.resources.instants import read_instant
from policyd.resources.kinds import key_of
from policyd.sources.kubernetes.api_audit import VERBS, Write

_KEPT: Final = VERBS - {"delete"}
"""After which the object is there."""
_GONE: Final = VERBS - {"create"}
"""After which it may be gone from a table: deleted, or changed so that it says nothing there any more."""


class LogSearch:
    """What of an explanation a log may tell of: begun with a report, ended with that and what was found."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._history = _begun(_sought_last(report))
        denied = None if report.past is None else report.past.denied_by
        self._changes: Sequence[Search | None] = ()
        if denied is not None:
            at = read_instant(denied.time)
            self._changes = [_begun(_sought(change, at)) for change in denied.changes]

    @property
    def is_needed(self) -> bool:
        """Whether the explanation tells of any change that a log may know."""
        return any(each is not None for each in (self._history, *self._changes))

    def read(self, log: Iterable[Write]) -> None:
        """Look a log through. Raises what reading it does."""
        search(log, [each for each in (self._history, *self._changes) if each is not None])

    def result(self) -> Report:
        """Return the report with what was found."""
        made = self._report
        if self._history is not None and made.history is not None:
            made = replace(made, history=msgspec.structs.replace(made.history, logged=self._history.result()))
        if made.past is None or made.past.denied_by is None:
            return made
        changes = tuple(map(_told, made.past.denied_by.changes, self._changes))
        denied = msgspec.structs.replace(made.past.denied_by, changes=changes)
        return replace(made, past=msgspec.structs.replace(made.past, denied_by=denied))


def _told(change: ObjectChange, found: Search | None) -> ObjectChange:
    return change if found is None else msgspec.structs.replace(change, logged=found.result())


def _begun(sought: Sought | None) -> Search | None:
    return None if sought is None else Search(sought)


def _sought_last(report: Report) -> Sought | None:
    """Return what made the deciding rule what it is."""
    change, origin = report.history, report.decision.origin
    if change is None or origin is None or not is_of_cluster(change.place):
        return None
    try:
        key, _ = parse_origin(origin)
    except ValueError:
        return None
    at = read_instant(change.at)
    return Sought(key, at, at + WHOLE_SECOND, _KEPT, change.author, change.operation == "Apply")


def _sought(change: ObjectChange, table_at: datetime) -> Sought | None:
    """Return what made a change of a table. Where nothing says when, it was shortly before the table."""
    key = key_of(change.object)
    if key is None or not all(is_of_cluster(place.place) for place in change.places):
        return None
    place = change.places[0] if change.places else None
    if change.what != "removed" and place is not None and place.at is not None:
        at = read_instant(place.at)
        return Sought(key, at, at + WHOLE_SECOND, _KEPT, place.author)
    verbs = _GONE if change.what == "removed" else _KEPT
    return Sought(key, table_at - BESIDE_TABLE, table_at + BESIDE_TABLE, verbs)
