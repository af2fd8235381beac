"""The generator reaches every feature and every reason often enough to find a disagreement there."""

import random
from collections import Counter
from functools import cache

import pytest

from tests.reference.features import ALL, features
from tests.reference.generate import world
from tests.reference.generate_requests import NOW_MILLIS, POD, question
from tests.reference.world import read_world

WORLDS, QUESTIONS = 400, 30


@cache
def occurrences() -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(WORLDS):
        rng = random.Random(seed)
        prepared = read_world(world(rng))
        for _ in range(QUESTIONS):
            found.update(features(prepared, question(rng, list(prepared.workloads)), NOW_MILLIS, POD))
    return found


@pytest.mark.parametrize("feature", sorted(ALL))
def test_feature_occurs_in_one_pair_of_a_hundred(feature: str) -> None:
    assert occurrences()[feature] >= WORLDS * QUESTIONS / 100


def test_no_feature_is_counted_that_is_not_listed() -> None:
    assert set(occurrences()) <= ALL


def test_a_third_to_two_thirds_are_allowed() -> None:
    assert 0.35 <= occurrences()["allowed"] / (WORLDS * QUESTIONS) <= 0.65


def test_worlds_are_small_and_repeatable() -> None:
    sizes = [len(world(random.Random(seed))) for seed in range(100)]
    assert min(sizes) >= 4
    assert max(sizes) <= 20
    assert world(random.Random(7)) == world(random.Random(7))
