"""An explanation's changes of a cluster's objects, looked up in the API server's audit log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec

from policyd.compile.compiler import parse_origin
from policyd.explain.logged import BESIDE_TABLE, WHOLE_SECOND, Search, Sought, Span, search
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
        self._history, self._later = _of_history(report)
        denied = None if report.past is None else report.past.denied_by
        self._changes: Sequence[Search | None] = ()
        if denied is not None:
            at = read_instant(denied.time)
            self._changes = [_of_change(change, at) for change in denied.changes]

    @property
    def is_needed(self) -> bool:
        """Whether the explanation tells of any change that a log may know."""
        return bool(self._searches)

    @property
    def _searches(self) -> list[Search]:
        return [each for each in (self._history, self._later, *self._changes) if each is not None]

    def read(self, log: Iterable[Write]) -> None:
        """Look a log through. Raises what reading it does."""
        search(log, self._searches)

    def result(self) -> Report:
        """Return the report with what was found."""
        made = self._report
        if made.history is not None and self._history is not None and self._later is not None:
            logged = msgspec.structs.replace(self._history.result(), later=self._later.later(self._history))
            made = replace(made, history=msgspec.structs.replace(made.history, logged=logged))
        if made.past is None or made.past.denied_by is None:
            return made
        changes = tuple(map(_told, made.past.denied_by.changes, self._changes))
        denied = msgspec.structs.replace(made.past.denied_by, changes=changes)
        return replace(made, past=msgspec.structs.replace(made.past, denied_by=denied))


def _told(change: ObjectChange, found: Search | None) -> ObjectChange:
    return change if found is None else msgspec.structs.replace(change, logged=found.result())


def _of_history(report: Report) -> tuple[Search | None, Search | None]:
    """Look for what made the deciding rule what it is, and for what was written to it afterwards."""
    change, origin = report.history, report.decision.origin
    if change is None or origin is None or not is_of_cluster(change.place):
        return None, None
    try:
        key, _ = parse_origin(origin)
    except ValueError:
        return None, None
    second = _second(change.at)
    sought = Sought(key, second, _KEPT, change.author, change.operation == "Apply")
    return Search(sought), Search(Sought(key, Span(second.since), _KEPT))


def _of_change(change: ObjectChange, table_at: datetime) -> Search | None:
    """Look for what made a change of a table: shortly before that, or when its object says.

    Objects of many kinds say nothing, nor does one that is gone; and what only removed something from an
    object leaves there the time of who wrote before.
    """
    key = key_of(change.object)
    if key is None or not all(is_of_cluster(place.place) for place in change.places):
        return None
    beside = Span(table_at - BESIDE_TABLE, table_at + BESIDE_TABLE)
    place = change.places[0] if change.places else None
    if change.what == "removed" or place is None or place.at is None:
        return Search(Sought(key, beside, _GONE if change.what == "removed" else _KEPT))
    second = _second(place.at)
    is_of_before = second.since < beside.since
    return Search(Sought(key, second, _KEPT, place.author, beside=beside if is_of_before else None))


def _second(text: str) -> Span:
    at = read_instant(text)
    return Span(at, at + WHOLE_SECOND)
