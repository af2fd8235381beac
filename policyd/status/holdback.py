"""Keeps a status from flickering: that fewer enforce than before is said when it has been so for a moment.

A change of MeshDefaults is another table for everybody, and a second later everybody has it. A workload that
has acknowledged a generation of an object goes on enforcing it until it has the next table, so what the
status says meanwhile is true of that generation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from policyd.model.names import ObjectKey
from policyd.status.conditions import Enforcement, Status, Verdict, Wanted
from policyd.status.reasons import ENFORCED

LAG_SECONDS = 5.0


class Holdback:
    """Remembers since when objects are enforced by fewer than their statuses say."""

    def __init__(self, quiet_until: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Say nothing of the kind until `quiet_until`: who leads has yet to hear the others."""
        self._clock = clock
        self._quiet_until = quiet_until
        self._since: dict[ObjectKey, float] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be said later."""
        return bool(self._since)

    def passed(self, key: ObjectKey, wanted: Wanted, there: Status) -> Wanted:
        """Return what is to be said now, given what the status says."""
        before = _enforcement(there)
        if before is None or wanted.enforcement is None or not self._is_worse(wanted, before, there):
            self._since.pop(key, None)
            return wanted
        now = self._clock()
        since = self._since.setdefault(key, now)
        if now - since >= LAG_SECONDS and now >= self._quiet_until:
            return wanted
        return replace(wanted, enforcement=before)

    def forget(self, gone: Callable[[ObjectKey], bool]) -> None:
        """Drop what is remembered of objects that are gone."""
        for key in [key for key in self._since if gone(key)]:
            del self._since[key]

    def _is_worse(self, wanted: Wanted, before: Enforcement, there: Status) -> bool:
        after = wanted.enforcement
        if after is None or there.observed_generation != wanted.generation:
            return False
        return after.workloads - after.enforcing > before.workloads - before.enforcing


def _enforcement(status: Status) -> Enforcement | None:
    """Return what a status says of enforcement."""
    said = status.of(ENFORCED)
    if said is None or status.workloads is None or status.enforcing is None:
        return None
    verdict = Verdict(ENFORCED, said.status == "True", said.reason, said.message)
    return Enforcement(status.workloads, status.enforcing, verdict)
