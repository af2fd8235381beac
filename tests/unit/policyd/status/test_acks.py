"""What replicas tell one another of acknowledgements: never more than each of them heard."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.status import acks
from policyd.status.reports import STALE_SECONDS, Peers

TABLES = st.sampled_from(["", "a" * 24, "b" * 24, "c" * 24])
PODS = st.integers(0, 60).map(lambda number: acks.pod_id(f"uid-{number}"))
HEARD = st.dictionaries(PODS, st.frozensets(TABLES, min_size=1, max_size=2), max_size=40)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(HEARD)
def test_a_report_says_what_was_heard_and_nothing_of_pods_that_contradict_themselves(
    heard: dict[str, frozenset[str]],
) -> None:
    told = acks.read(acks.written(heard, 1))
    assert told.keys() == heard.keys()
    for pod, tables in heard.items():
        assert told[pod] == (tables if len(tables) == 1 else frozenset({acks.NOTHING}))


@given(HEARD, HEARD)
def test_what_several_say_of_a_pod_stands_together(
    one: dict[str, frozenset[str]], other: dict[str, frozenset[str]]
) -> None:
    all_of_it = acks.together([one, other])
    for pod in one.keys() | other.keys():
        assert all_of_it[pod] == one.get(pod, frozenset()) | other.get(pod, frozenset())


def test_a_report_is_bounded_and_what_finds_no_room_counts_less() -> None:
    heard = {acks.pod_id(f"uid-{number}"): frozenset({"a" * 24}) for number in range(40_000)}
    text = acks.written(heard, 7)
    assert len(text) < acks.MOST_REPORT_BYTES * 1.01
    told = acks.read(text)
    assert 20_000 < len(told) < 40_000
    assert all(heard[pod] == tables for pod, tables in told.items())


@pytest.mark.parametrize("text", ["", "{", "7", '{"beat": 1}', '{"beat": 1, "tables": {"a": 7}}', "\ud800"])
def test_a_report_that_cannot_be_read_says_nothing(text: str) -> None:
    assert acks.read(text) == {}


def report(beat: int, *pods: str) -> str:
    return acks.written({acks.pod_id(pod): frozenset({"a" * 24}) for pod in pods}, beat)


def peers(clock: Clock) -> Peers:
    return Peers(None, "policyd", "me", clock)  # type: ignore[arg-type]  # nothing is asked here


def test_a_report_counts_from_when_it_was_seen_to_change_until_it_is_silent() -> None:
    clock = Clock()
    heard = peers(clock)
    heard.hear({"other": report(1, "p")})
    assert heard.acks() == [], "it may be a dead replica's"
    clock.now = 10.0
    heard.hear({"other": report(2, "p")})
    assert heard.acks() == [{acks.pod_id("p"): frozenset({"a" * 24})}]
    assert heard.alive == ("other",)
    clock.now = 10.0 + STALE_SECONDS + 1
    assert heard.acks() == []
    heard.hear({"other": report(2, "p")})
    assert heard.acks() == [], "the same again is no sign of life"


def test_what_we_said_before_we_led_does_not_count_and_what_is_gone_neither() -> None:
    clock = Clock()
    heard = peers(clock)
    for beat in (1, 2):
        heard.hear({"me": report(beat, "p"), "other": report(beat, "q")})
    assert heard.alive == ("other",)
    heard.hear({})
    assert heard.acks() == []


def test_pods_and_tables_are_named_alike_on_both_sides() -> None:
    class One:
        def stir(self) -> tuple[object, ...]:
            return ()

        def acknowledged(self) -> list[tuple[str, bytes]]:
            return [("uid-1", bytes.fromhex("ab" * 32)), ("uid-2", b"")]

    own = acks.own_acks(One())
    assert own[acks.pod_id("uid-1")] == {acks.table_id("sha256:" + "ab" * 32)}
    assert own[acks.pod_id("uid-2")] == {acks.NOTHING}
    assert msgspec.json.decode(acks.written(own, 3))["beat"] == 3
