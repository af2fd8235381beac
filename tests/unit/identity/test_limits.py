from __future__ import annotations

import pytest

from identity import limits
from identity.limits import Limits, Rate
from identity.refusal import Code, Refused


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def granted(spender: Limits, key: object, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            spender.spend(key)
        except Refused as refused:
            count -= refused.code is not Code.RATE_LIMITED
        else:
            count += 1
    return count


def test_id_05_a_pod_gets_a_burst_then_one_in_ten_seconds() -> None:
    clock = Clock()
    spender = Limits(now=clock)
    assert granted(spender, "pod", 1000) == 5
    clock.now += 9.9
    assert granted(spender, "pod", 1000) == 0
    clock.now += 0.2
    assert granted(spender, "pod", 1000) == 1
    clock.now += 3600
    assert granted(spender, "pod", 1000) == 5


def test_id_05_a_throttled_pod_takes_nothing_from_others() -> None:
    spender = Limits(everyone=Rate(per_second=1, burst=20), now=Clock())
    assert granted(spender, "greedy", 1000) == 5
    assert sum(granted(spender, f"pod-{n}", 1) for n in range(15)) == 15
    assert granted(spender, "one too many", 1) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BUCKETS", 10)
    spender = Limits(now=Clock())
    for number in range(100):
        spender.spend(number)
    assert len(spender._buckets) == 10


def test_a_clock_that_goes_back_grants_nothing() -> None:
    clock = Clock()
    clock.now = 100
    spender = Limits(now=clock)
    assert granted(spender, "pod", 10) == 5
    clock.now = 0
    assert granted(spender, "pod", 10) == 0
