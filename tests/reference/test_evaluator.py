"""Properties of the reference evaluator itself."""

import random

import pytest

from tests.reference.generate import world
from tests.reference.generate_requests import NOW_MILLIS, POD, question
from tests.reference.policytest import ask
from tests.reference.ports import port_of
from tests.reference.world import read_world

WORLDS, QUESTIONS = 60, 20


@pytest.mark.shows("W8")
def test_the_order_of_manifests_does_not_matter() -> None:
    for seed in range(WORLDS):
        rng = random.Random(seed)
        documents = world(rng)
        one, other = read_world(documents), read_world(rng.sample(documents, len(documents)))
        for _ in range(QUESTIONS):
            body = question(rng, sorted(one.workloads))
            assert ask(one, body, NOW_MILLIS, POD) == ask(other, body, NOW_MILLIS, POD)


@pytest.mark.shows("D6")
def test_near_misses_are_the_three_nearest_grants_that_fail() -> None:
    denials = 0
    for seed in range(WORLDS):
        rng = random.Random(seed)
        prepared = read_world(world(rng))
        for _ in range(QUESTIONS):
            body = question(rng, sorted(prepared.workloads))
            decision = ask(prepared, body, NOW_MILLIS, POD)
            misses = decision["nearMisses"]
            if decision["verdict"] == "allow":
                assert misses == []
                continue
            denials += bool(misses)
            assert len(misses) <= 3
            assert [len(failed) for _, failed in misses] == sorted(len(failed) for _, failed in misses)
            reference, _, number = body["to"].rpartition(":")
            port = port_of(prepared, prepared.workload(reference), int(number))
            grants = {row.name for row in port.rows if row.effect == "Allow" and not row.audit}
            assert {name for name, _ in misses} <= grants
            assert all(failed for _, failed in misses)
    assert denials > WORLDS
