"""How many certificates a pod, and all together, may have (security A.8 ID-05)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from identity.refusal import Code, Refused


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` at once, then `per_second`."""

    per_second: float
    burst: float


POD = Rate(per_second=0.1, burst=5)
ALL = Rate(per_second=2000, burst=4000)
MAX_BUCKETS = 100_000
"""Pods remembered; beyond that the one longest unheard of is forgotten."""


class Limits:
    """A bucket per key, and one for all. The key's comes first: who is throttled costs the others nothing."""

    def __init__(
        self, pod: Rate = POD, everyone: Rate = ALL, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._pod = pod
        self._everyone = everyone
        self._now = now
        self._all = (everyone.burst, now())
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def spend(self, key: Hashable) -> None:
        """Take one for `key`; raises Refused(RATE_LIMITED)."""
        now = self._now()
        bucket = _refill(self._buckets.get(key, (self._pod.burst, now)), self._pod, now)
        if bucket[0] < 1:
            wait = (1 - bucket[0]) / self._pod.per_second
            raise Refused(Code.RATE_LIMITED, f"too many certificates for this pod; again in {wait:.0f} s")
        self._all = _refill(self._all, self._everyone, now)
        if self._all[0] < 1:
            raise Refused(Code.RATE_LIMITED, "too many certificates just now; again in 1 s")
        self._all = (self._all[0] - 1, now)
        self._buckets[key] = (bucket[0] - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)


def _refill(bucket: tuple[float, float], rate: Rate, now: float) -> tuple[float, float]:
    tokens, at = bucket
    return min(rate.burst, tokens + max(0.0, now - at) * rate.per_second), now
