"""Namespaces take turns, however much of one waits (promise P-8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.turns import Turns


@pytest.mark.promise("P-8")
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_p_8_a_key_waits_for_one_of_each_other_namespace_at_most(history: list[tuple[str, bool]]) -> None:
    turns = Turns[tuple[str, int]]()
    waiting: dict[str, list[int]] = {each: [] for each in "abc"}
    since = dict.fromkeys(waiting, 0)
    for number, (namespace, takes) in enumerate(history):
        turns.add(namespace, (namespace, number))
        waiting[namespace].append(number)
        if takes:
            taken, longest = turns.next()
            assert longest == waiting[taken].pop(0), "not who has waited longest of its namespace"
            for other, keys in waiting.items():
                since[other] = 0 if other == taken or not keys else since[other] + 1
                assert since[other] < len(waiting)
        assert len(turns) == sum(map(len, waiting.values()))
        assert bool(turns) == (len(turns) > 0)


def test_who_comes_again_keeps_its_place_and_has_one_turn() -> None:
    turns = Turns[str]()
    for key in ("first", "second", "first"):
        turns.add("a", key)
    assert (("a", "first") in turns, ("b", "first") in turns, turns.waiting_of("a")) == (True, False, 2)
    assert [turns.next(), turns.next()] == ["first", "second"]
    assert not turns


def test_who_is_gone_has_no_turn() -> None:
    turns = Turns[str]()
    turns.add("a", "one")
    turns.discard("a", "one")
    turns.discard("a", "one")
    assert not turns
    with pytest.raises(KeyError):
        turns.next()
