"""Who may lead by a Lease, in a world where requests, clocks and processes are as slow as they like."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeapi.lease import MOST_LEASE_SECONDS, Candidacy, Lease, LeaseSpec, Timing

AT = datetime(2026, 11, 21, tzinfo=UTC)
SIMULATED_SECONDS = 300.0


def lease(holder: str, version: str = "1", **spec: Any) -> Lease:
    body = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder, **spec}}
    return msgspec.convert(body, Lease)


@dataclass
class Store:
    """One Lease in an API server: written over a version, or not at all."""

    version: int = 0
    spec: dict[str, Any] | None = None

    def get(self) -> Lease | None:
        body = {"metadata": {"resourceVersion": str(self.version)}, "spec": self.spec}
        return None if self.spec is None else msgspec.convert(body, Lease)

    def put(self, spec: dict[str, Any], version: str | None) -> Lease | None:
        """Return what was written; None: a conflict."""
        if version != (None if self.spec is None else str(self.version)):
            return None
        self.version, self.spec = self.version + 1, spec
        return self.get()


@dataclass
class World:
    """Instants of one true clock, and what happens at them."""

    dice: random.Random
    now: float = 0.0
    queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    count: int = 0

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + seconds, self.count, work))

    def run(self, seconds: float, look: Callable[[], None]) -> None:
        while self.queue and self.queue[0][0] <= seconds:
            self.now, _, work = heapq.heappop(self.queue)
            look()
            work()
            look()


class Process:
    """A candidate that asks as `Elector` does; its clock has an offset of its own and runs a little wrong."""

    def __init__(self, name: str, world: World, store: Store, timing: Timing) -> None:
        self.candidacy = Candidacy(name, timing)
        self.world, self.store = world, store
        self.offset = world.dice.uniform(-1e6, 1e6)
        self.rate = world.dice.uniform(0.98, 1.02)
        self.led = False
        world.later(world.dice.uniform(0, 3), self.attempt)

    @property
    def clock(self) -> float:
        return self.offset + self.rate * self.world.now

    @property
    def leads(self) -> bool:
        return self.candidacy.leads(self.clock)

    def slow(self) -> float:
        """A way through the network, or a process that stands still: mostly short, now and then very long."""
        dice = self.world.dice
        return dice.expovariate(20.0) if dice.random() < 0.9 else dice.uniform(0.0, 40.0)

    def attempt(self) -> None:
        def looked() -> None:
            found = self.store.get()
            self.world.later(self.slow(), lambda: self.decide(found))

        if self.leads:
            self.decide(None, known=True)
        else:
            self.world.later(self.slow(), looked)

    def decide(self, found: Lease | None, *, known: bool = False) -> None:
        if found is None and not known:
            self.candidacy.gone()
        elif found is not None:
            self.candidacy.saw(found, self.clock)
        if self.candidacy.may_take(self.clock):
            self.write(None if found is None and not known else self.candidacy.version)
        else:
            self.again()

    def write(self, version: str | None) -> None:
        asked_at, spec = self.clock, self.candidacy.record(AT.replace(microsecond=self.world.count % 10**6))

        def arrives() -> None:
            written = self.store.put(spec, version)
            if self.world.dice.random() < 0.9:  # else the answer is lost
                self.world.later(self.slow(), lambda: answered(written))
            else:
                self.again()

        def answered(written: Lease | None) -> None:
            if written is not None:
                self.candidacy.wrote(written, asked_at, self.clock)
                self.led |= self.leads
            else:
                self.candidacy.saw(self.store.get() or Lease(), self.clock)
            self.again()

        self.world.later(self.slow(), arrives)

    def again(self) -> None:
        self.world.later(self.world.dice.uniform(2.0, 2.4), self.attempt)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 5))
def test_ct_07_there_are_never_two_leaders(seed: int, count: int) -> None:
    world, store = World(random.Random(seed)), Store()
    processes = [Process(f"p{index}", world, store, Timing()) for index in range(count)]

    def look() -> None:
        assert sum(each.leads for each in processes) <= 1, f"at {world.now}"

    world.run(SIMULATED_SECONDS, look)
    assert any(each.led for each in processes), "nobody ever led"


def test_a_record_that_changes_is_waited_for_however_old_its_times_are() -> None:
    candidacy = Candidacy("me", Timing())
    for version in range(10):
        candidacy.saw(
            lease("other", str(version), renewTime=f"2001-01-01T00:00:0{version}.0Z"), version * 10.0
        )
        assert not candidacy.may_take(version * 10.0 + 14.9)
    assert candidacy.may_take(90.0 + 15.0)


def test_a_record_from_the_future_is_taken_when_it_stays_as_it_is() -> None:
    candidacy = Candidacy("me", Timing())
    for at in range(16):
        candidacy.saw(lease("other", str(at), renewTime="2999-01-01T00:00:00.0Z"), float(at))
    assert candidacy.may_take(15.0), "a new resourceVersion of the same record is no sign of life"


@pytest.mark.parametrize(
    ("said", "waited"), [(None, 15), (0, 15), (-5, 15), (60, 60), (10**9, MOST_LEASE_SECONDS)]
)
def test_the_holders_own_duration_is_waited_for_within_reason(said: int | None, waited: int) -> None:
    candidacy = Candidacy("me", Timing())
    candidacy.saw(lease("other", leaseDurationSeconds=said), 0.0)
    assert not candidacy.may_take(waited - 0.1)
    assert candidacy.may_take(waited)


def test_who_gets_an_answer_late_leads_for_what_is_left() -> None:
    candidacy = Candidacy("me", Timing())
    candidacy.wrote(lease("me"), asked_at=0.0, now=9.0)
    assert candidacy.seconds_left(9.0) == 1.0
    assert not candidacy.leads(10.0)


def test_who_sees_another_name_leads_no_more() -> None:
    candidacy = Candidacy("me", Timing())
    candidacy.wrote(lease("me"), 0.0, 0.0)
    candidacy.saw(lease("other", "2"), 1.0)
    assert not candidacy.leads(1.0)
    assert not candidacy.may_take(1.0)


def test_transitions_are_counted_and_the_time_of_the_first_renewal_kept() -> None:
    candidacy = Candidacy("me", Timing())
    assert candidacy.record(AT)["leaseTransitions"] == 0
    candidacy.saw(lease("other", leaseTransitions=4, acquireTime="2020-01-01T00:00:00.000000Z"), 0.0)
    taken = candidacy.record(AT)
    assert (taken["leaseTransitions"], taken["acquireTime"]) == (5, "2026-11-21T00:00:00.000000Z")
    candidacy.wrote(lease("me", "2", leaseTransitions=5, acquireTime=taken["acquireTime"]), 0.0, 0.0)
    renewed = candidacy.record(AT.replace(hour=1))
    assert (renewed["leaseTransitions"], renewed["acquireTime"]) == (5, taken["acquireTime"])
    assert candidacy.release(AT)["holderIdentity"] == ""


def test_a_lease_that_is_deleted_is_no_sign_that_nobody_leads() -> None:
    candidacy = Candidacy("me", Timing())
    candidacy.saw(lease("other"), 0.0)
    candidacy.gone()
    assert not candidacy.may_take(14.9)
    assert candidacy.may_take(15.0)
    fresh = Candidacy("me", Timing())
    fresh.gone()
    assert fresh.may_take(0.0)


def test_times_by_which_two_could_lead_are_refused() -> None:
    for wrong in ({"lease": 10}, {"renew_deadline": 2.0}, {"retry": 0.0}, {"lease": 9}):
        with pytest.raises(ValueError, match="expected lease"):
            Timing(**wrong)


def test_a_lease_of_another_shape_is_read_as_far_as_it_goes() -> None:
    assert msgspec.convert({"metadata": {}, "spec": {}}, Lease).spec == LeaseSpec()
