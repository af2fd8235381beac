"""What keeps the trail, as the rest of policyd sees it; `policyd.audit.keeping` does, on either database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from policyd.audit.chain import Head, Link
from policyd.audit.record import DENIAL, LOST, WOULD_DENY, Writer

MOST_ROWS = 1000
"""Rows of one answer."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are meant; None: whichever. Times are in ms since the epoch, `until` is excluded.

    `peer` is a SPIFFE ID, `namespace/serviceaccount` or an address.
    """

    since: int | None = None
    until: int | None = None
    namespace: str | None = None
    workload: str | None = None
    reason: str | None = None
    peer: str | None = None
    events: tuple[str, ...] = (DENIAL,)
    after: int = 0
    """Only records that were stored after this place."""
    before: int | None = None
    """Only records that were stored before this place."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that records name by hash; `kind` is `table`, `facts` or `sources`, `version` `sha256:…`."""

    kind: str
    version: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """How the store is. `problem` is None while it works."""

    folder: str
    """Where it is: a folder, or how a database is reached, without secrets."""
    problem: str | None
    records: int
    """Records kept since the process began."""
    lost: int
    """Denials that writers said were lost, since the process began."""
    size_bytes: int
    rolled_back: int
    """Times that a writer named a record the store should have and hasn't, as far as is kept."""


class Reading(Protocol):
    """Questions. Each may take a while: call them in a thread. Raises StoreUnavailable."""

    def find(self, identifier: str, namespace: str | None = None) -> list[Row]:
        """Return the records of an id, or of every id that begins so, of a namespace; at most MOST_ROWS."""

    def groups(self, wanted: Filter, limit: int) -> list[Row]:
        """Return equal denials as one row each, the most frequent first."""

    def records(self, wanted: Filter, limit: int) -> list[Row]:
        """Return the newest records, the oldest of them first; with `after` the next ones."""

    def gaps(self, wanted: Filter) -> list[Row]:
        """Return what writers said of lost records and of new chains, newest first."""

    def tables(self, workload: str, limit: int) -> list[Row]:
        """Return the `table` records of a workload, newest first."""

    def content(self, version: str) -> bytes | None:
        """Return bytes by hash."""

    def last_place(self) -> int:
        """Return the place of the newest record."""


class Store(Reading, Protocol):
    """Keeps. Futures end when the disk has it; they raise ChainRefused or StoreUnavailable."""

    def greet(self, writer: Writer, chain: bytes, acknowledged: Head) -> Future[int]:
        """Take up a chain; return the sequence up to which it is kept."""

    def append(self, writer: Writer, chain: bytes, links: Sequence[Link]) -> Future[int]:
        """Keep records; return up to where the chain is kept. What is kept already may come again."""

    def keep(self, contents: Sequence[Content]) -> None:
        """Keep bytes, soon. Waits where much is to be written."""

    def note(self, json: bytes) -> None:
        """Keep a record of policyd's own, soon. Waits where much is to be written."""

    @property
    def standing(self) -> Standing:
        """Say how it is."""


GAP_EVENTS = (LOST, "chain", "unreadable")
DENIALS = (DENIAL,)
WOULD_BE = (WOULD_DENY,)
