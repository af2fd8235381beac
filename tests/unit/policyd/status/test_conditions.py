"""From findings to conditions, and when they say that they changed."""

from __future__ import annotations

import msgspec

from policyd.model.finding import Finding, Severity
from policyd.status.conditions import (
    MOST_MESSAGE,
    MOST_TOLD,
    Condition,
    Enforcement,
    Status,
    Verdict,
    Wanted,
    verdicts_of,
)
from policyd.status.holdback import LAG_SECONDS, Holdback
from policyd.status.reasons import ENFORCED
from tests.unit.policyd.status.worlds import KEY

THEN, NOW = "2026-11-21T10:00:00Z", "2026-11-21T12:00:00Z"


def finding(
    code: str, severity: Severity = "error", field: str = "spec.port", message: str = "no"
) -> Finding:
    return Finding(severity, code, message, KEY, field, advice="do better")


def test_without_findings_an_object_is_accepted_and_nothing_is_to_think_about() -> None:
    (accepted,) = verdicts_of([])
    assert (accepted.type, accepted.holds, accepted.reason) == ("Accepted", True, "Accepted")


def test_an_error_beats_what_has_no_effect_and_both_beat_a_doubt() -> None:
    found = [
        finding("PassesOver", "warning"),
        finding("SelectsNothing", "warning", "spec.podSelector", "selects nothing"),
        finding("unknown-field", field="spec.x", message="unknown field 'x'"),
    ]
    accepted, doubt = verdicts_of(found)
    assert (accepted.holds, accepted.reason) == (False, "UnknownField")
    assert accepted.message == (
        "spec.x: unknown field 'x'; do better\nspec.podSelector: selects nothing; do better"
    )
    assert (doubt.type, doubt.holds, doubt.reason) == ("Warning", True, "PassesOver")
    assert verdicts_of(reversed(found)) == (accepted, doubt), "whatever the order"
    assert verdicts_of([*found, *found]) == (accepted, doubt), "each once"


def test_ct_14_a_message_is_bounded_and_says_how_many_more_there_are() -> None:
    many = [finding("bad-value", field=f"spec.rules[{n}]", message="x" * 20) for n in range(30)]
    (accepted,) = verdicts_of(many)
    assert accepted.message.count("\n") == MOST_TOLD
    assert accepted.message.endswith(f"and {30 - MOST_TOLD} more")
    (long,) = verdicts_of([finding("bad-value", message="y" * 10_000)])
    assert len(long.message) == MOST_MESSAGE


def test_a_code_that_is_not_listed_is_told_all_the_same() -> None:
    (accepted,) = verdicts_of([finding("NeverHeardOf")])
    assert (accepted.holds, accepted.reason) == (False, "Unlisted")


def wanted(*, holds: bool = True, generation: int = 2, message: str = "m") -> Wanted:
    return Wanted("u", generation, (Verdict("Accepted", holds, "R", message),))


def test_the_time_moves_only_with_the_status() -> None:
    before = Status(1, conditions=(Condition("Accepted", "True", "Old", "old", THEN, 1),))
    (same,) = wanted().status(before, NOW).conditions
    assert same == Condition("Accepted", "True", "R", "m", THEN, 2)
    (other,) = wanted(holds=False).status(before, NOW).conditions
    assert other.last_transition_time == NOW
    (first,) = wanted().status(Status(), NOW).conditions
    assert first.last_transition_time == NOW


def test_a_status_that_is_as_wanted_is_equal_to_it() -> None:
    made = wanted().status(Status(), NOW)
    assert wanted().status(made, "later") == made
    again = msgspec.json.decode(msgspec.json.encode(made), type=Status)
    assert again.ours == made


def test_conditions_of_others_are_none_of_ours() -> None:
    other = Condition("Reviewed", "True", "R", "m", THEN)
    assert Status(1, conditions=(other,)).ours.conditions == ()


def enforced(enforcing: int, of: int, generation: int = 1) -> Wanted:
    verdict = Verdict(ENFORCED, enforcing == of, "R", f"{enforcing} of {of}")
    return Wanted("u", generation, (), Enforcement(of, enforcing, verdict))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_that_fewer_enforce_is_said_when_it_lasts() -> None:
    clock = Clock()
    holdback = Holdback(0.0, clock)
    there = enforced(3, 3).status(Status(), THEN)
    assert holdback.passed(KEY, enforced(1, 3), there) == enforced(3, 3)
    assert holdback.is_waiting
    clock.now += LAG_SECONDS - 0.1
    assert holdback.passed(KEY, enforced(2, 3), there) == enforced(3, 3)
    clock.now += 0.2
    assert holdback.passed(KEY, enforced(2, 3), there) == enforced(2, 3)


def test_what_is_well_again_in_time_was_never_said_to_be_otherwise() -> None:
    clock = Clock()
    holdback = Holdback(0.0, clock)
    there = enforced(3, 3).status(Status(), THEN)
    holdback.passed(KEY, enforced(1, 3), there)
    assert holdback.passed(KEY, enforced(3, 3), there) == enforced(3, 3)
    assert not holdback.is_waiting
    clock.now += LAG_SECONDS * 2
    assert holdback.passed(KEY, enforced(1, 3), there) == enforced(3, 3), "it begins anew"


def test_more_than_is_true_is_never_said() -> None:
    """What is held back is only what the status says of the very same generation."""
    holdback = Holdback(0.0, Clock())
    there = enforced(3, 3).status(Status(), THEN)
    assert holdback.passed(KEY, enforced(0, 3, generation=2), there) == enforced(0, 3, generation=2)
    assert holdback.passed(KEY, enforced(2, 4), Status()) == enforced(2, 4)


def test_who_has_just_begun_to_lead_listens_first() -> None:
    clock = Clock()
    holdback = Holdback(clock.now + 60, clock)
    there = enforced(3, 3).status(Status(), THEN)
    holdback.passed(KEY, enforced(1, 3), there)
    clock.now += 59
    assert holdback.passed(KEY, enforced(1, 3), there) == enforced(3, 3)
    clock.now += 2
    assert holdback.passed(KEY, enforced(1, 3), there) == enforced(1, 3)
