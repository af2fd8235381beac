"""What a Lease says, and who may lead by it. No I/O and no clock: instants are seconds of one's own clock.

Nobody's clock is compared with another's. Whoever doesn't hold the Lease notes when, by its own clock, it saw
the record change; only a record that stayed as it is for the whole duration may be taken over. Whoever holds
it counts from before it asked for a renewal, and stops earlier than that duration.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

JITTER = 1.2
"""Attempts are up to this much farther apart than said, so that replicas don't ask in step (client-go's)."""
MOST_LEASE_SECONDS = 3600
"""A record that asks for longer isn't waited for any longer: one typing error is no reason to wait a year."""


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds; the defaults are those of Kubernetes' own controllers."""

    lease: int = 15
    """How long others wait after the last renewal that they saw."""
    renew_deadline: float = 10.0
    """How long whoever leads goes on without a renewal."""
    retry: float = 2.0

    def __post_init__(self) -> None:
        """Raise ValueError where somebody could take over from one who still leads."""
        if not self.lease > self.renew_deadline > self.retry * JITTER > 0:
            raise ValueError(f"{self}: expected lease > renew_deadline > {JITTER} x retry > 0")


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    """`coordination.k8s.io/v1`, as far as it is read."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class Lease(msgspec.Struct, frozen=True):
    """A Lease as the API server has it."""

    metadata: _Meta = _Meta()
    spec: LeaseSpec = LeaseSpec()


class Candidacy:
    """What one candidate knows. `leads` is the only thing to go by; it becomes false by time alone."""

    def __init__(self, identity: str, timing: Timing) -> None:
        """`identity` must be no other candidate's, nor that of an earlier life of this one."""
        self.identity = identity
        self.timing = timing
        self._lease: Lease | None = None
        self._seen_at = float("-inf")
        self._leads_until = float("-inf")

    def leads(self, now: float) -> bool:
        """Whether nobody else can lead now."""
        return now < self._leads_until

    def seconds_left(self, now: float) -> float:
        """Return for how long it leads without another renewal; 0 where it doesn't."""
        return max(0.0, self._leads_until - now)

    @property
    def holder(self) -> str:
        """Who holds the Lease, as was seen last; "" where nobody does."""
        return "" if self._lease is None else self._lease.spec.holder_identity or ""

    @property
    def version(self) -> str:
        """The resource version of what was seen last, "" before anything was."""
        return "" if self._lease is None else self._lease.metadata.resource_version

    def saw(self, lease: Lease, now: float) -> None:
        """Take over what the API server has. The same record as before is no sign of life."""
        if self._lease is None or self._lease.spec != lease.spec:
            self._seen_at = now
        self._lease = lease
        if self.holder != self.identity:
            self._leads_until = float("-inf")

    def gone(self) -> None:
        """There is no Lease. If somebody held the one that was deleted, he doesn't know yet."""
        self._leads_until = float("-inf")
        if self.holder in {"", self.identity}:
            self._lease = None

    def may_take(self, now: float) -> bool:
        """Whether to write one's own name: it is there already, nobody's is, or who holds it is silent."""
        if self.holder in {"", self.identity}:
            return True
        said = self._lease.spec.lease_duration_seconds if self._lease is not None else None
        duration = said if said is not None and said > 0 else self.timing.lease
        return now >= self._seen_at + min(duration, MOST_LEASE_SECONDS)

    def wrote(self, lease: Lease, asked_at: float, now: float) -> None:
        """Take over what was written with our name in it; it counts from before it was asked for."""
        self.saw(lease, now)
        if self.holder == self.identity:
            self._leads_until = asked_at + self.timing.renew_deadline

    def ended(self) -> None:
        """Lead no more, whatever the record says."""
        self._leads_until = float("-inf")

    def record(self, at: datetime) -> dict[str, Any]:
        """Return the `spec` that says that we hold it. Its times are for people."""
        spec = LeaseSpec() if self._lease is None else self._lease.spec
        instant = micro_time(at)
        is_ours = self.holder == self.identity
        transitions = spec.lease_transitions or 0
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.timing.lease,
            "acquireTime": (spec.acquire_time if is_ours else None) or instant,
            "renewTime": instant,
            "leaseTransitions": transitions if is_ours or self._lease is None else transitions + 1,
        }

    def release(self, at: datetime) -> dict[str, Any]:
        """Return the `spec` that says that nobody holds it: the next needn't wait."""
        return self.record(at) | {"holderIdentity": "", "leaseDurationSeconds": 1}


def micro_time(at: datetime) -> str:
    """Return an instant as the API's MicroTime."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
