"""What the API server's audit log says of one change: the write that made it, or why none is named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from policyd.model.names import ObjectKey
from policyd.sources.kubernetes.api_audit import Entry, Write

WHOLE_SECOND: Final = timedelta(seconds=1)
"""`managedFields` have times cut to seconds, by the clock of the API server that writes the log."""
BESIDE_TABLE: Final = timedelta(seconds=5)
"""Between a write and the table that it made: that takes a second at most, the rest is for other clocks."""
APPLY: Final = "patch"
"""The verb of server-side apply, also where it creates."""
MOST_MATCHES: Final = 64
"""Entries that are kept for one change; of more nobody can say which it was."""
MOST_USERS: Final = 8
"""Users that are told where no one entry is."""


class Later(msgspec.Struct, frozen=True):
    """Writes after the last that `managedFields` tell of, at most `MOST_MATCHES`.

    They tell of none that took no field: that changed nothing, or only removed what others had said.
    """

    count: int
    last: Entry


class Logged(msgspec.Struct, frozen=True):
    """What the log tells of a change. `matches`: how many entries may be it, at most `MOST_MATCHES`.

    `entry` is the last of them if one user made them all. Otherwise it isn't known which it was, and `users`
    are those who made them.
    """

    matches: int
    entry: Entry | None = None
    users: tuple[str, ...] = ()
    later: Later | None = None
    """Of the deciding rule's last change alone."""


@dataclass(frozen=True, slots=True)
class Span:
    """From an instant to before another; without an end, for ever."""

    since: datetime
    until: datetime | None = None

    def holds(self, write: Write) -> bool:
        """Whether a write went on at some time in it."""
        return write.ended >= self.since and (self.until is None or write.received < self.until)


@dataclass(frozen=True, slots=True)
class Sought:
    """Which writes may have made a change: those of `span`, and of `beside` whatever `managedFields` say.

    `manager` and `applied` are what they say of it; None where they say nothing.
    """

    key: ObjectKey
    span: Span
    verbs: frozenset[str]
    manager: str | None = None
    applied: bool | None = None
    beside: Span | None = None

    def __contains__(self, write: Write) -> bool:
        if write.key != self.key or write.entry.verb not in self.verbs:
            return False
        return self.span.holds(write) or self._is_beside(write)

    def is_fitting(self, write: Write) -> bool:
        """Whether `managedFields` would say of a write what they say. Only patches can apply."""
        if self._is_beside(write):
            return True
        if self.applied and write.entry.verb != APPLY:
            return False
        return self.manager is None or write.manager == self.manager

    def _is_beside(self, write: Write) -> bool:
        return self.beside is not None and self.beside.holds(write)


@dataclass(slots=True)
class Search:
    """Collects what may have made one change."""

    sought: Sought
    _found: dict[str, Write] = field(default_factory=dict)
    """By auditID: rotated files, and servers behind another, tell the same again."""
    _is_over: bool = False

    def look_at(self, write: Write) -> None:
        """Keep a write if it may be the one; of too many, the newest."""
        if write not in self.sought:
            return
        self._found[write.entry.audit_id] = write
        if len(self._found) > MOST_MATCHES:
            self._is_over = True
            del self._found[min(self._found.values(), key=_age).entry.audit_id]

    def result(self) -> Logged:
        """Say what was found.

        Of several managers of one second `managedFields` don't say whose write was the last: another user's
        is no less likely for its manager.
        """
        found = self._sorted()
        fitting = [write for write in found if self.sought.is_fitting(write)]
        if not fitting:
            return Logged(0)
        who = dict.fromkeys((write.entry.user, write.entry.impersonated_by) for write in found)
        if len(who) == 1 and not self._is_over:
            return Logged(len(found), fitting[-1].entry)
        names = dict.fromkeys(by_text(user, impersonator) for user, impersonator in who)
        return Logged(len(found), None, tuple(names)[:MOST_USERS])

    def later(self, than: Search) -> Later | None:
        """Say how many were found that another didn't find, and which is the last; None without any."""
        found = [write for write in self._sorted() if write.entry.audit_id not in than._found]
        return Later(len(found), found[-1].entry) if found else None

    def _sorted(self) -> list[Write]:
        return sorted(self._found.values(), key=_age)


def _age(write: Write) -> tuple[datetime, str]:
    return write.ended, write.entry.audit_id


def search(log: Iterable[Write], searches: Iterable[Search]) -> None:
    """Read a log once, for all."""
    by_key: dict[ObjectKey, list[Search]] = {}
    for each in searches:
        by_key.setdefault(each.sought.key, []).append(each)
    for write in log:
        for each in by_key.get(write.key, ()):
            each.look_at(write)


def by_text(user: str, impersonator: str | None) -> str:
    """`jane`, or `jane (impersonated by admin)`."""
    return user if impersonator is None else f"{user} (impersonated by {impersonator})"


def logged_text(logged: Logged) -> str:
    """Return one line. What the client said itself comes last."""
    entry = logged.entry
    if entry is None and not logged.matches:
        return "no entry of the API server's log matches"
    if entry is None:
        return f"{logged.matches} entries of the API server's log match, by {', '.join(logged.users)}"
    last = f", the last of {logged.matches} that match" if logged.matches > 1 else ""
    return _entry_text(entry, last)


def later_text(later: Later) -> str:
    """Return one line on writes that `managedFields` don't tell of."""
    count = f"at least {later.count}" if later.count == MOST_MATCHES else str(later.count)
    writes = "write" if later.count == 1 else "writes"
    return f"{count} {writes} that changed nothing or took no field; the last: {_entry_text(later.last)}"


def _entry_text(entry: Entry, last: str = "") -> str:
    *said, address = entry.source_ips or ("an unknown address",)
    via = f" (which says: for {', '.join(said)})" if said else ""
    agent = f', agent "{entry.user_agent}"' if entry.user_agent else ""
    by = by_text(entry.user, entry.impersonated_by)
    return f"{entry.verb} by {by} at {entry.time}{last}, auditID {entry.audit_id}, from {address}{via}{agent}"
