"""Every reason of a decision is written down, and produced by a test (promise P-15)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.reference.policytest import read_cases

ROOT = Path(__file__).parents[2]
SEMANTICS = ROOT / "docs" / "reference" / "semantics.md"
DEFINED = ROOT / "proxy" / "engine" / "src" / "reason.rs"

NOT_YET = {
    "delegate_unavailable": "nothing is delegated to OPA yet",
    "rate_limited": "HTTPLocalRateLimitPolicy is known but not enforced yet",
}
SHOWN_BY_NO_CASE = {
    "policy_stale": "d1_a_table_is_stale_beyond_its_age_not_at_it",
    "overloaded": "test_p_15_a_peer_with_too_many_connections_is_told_apart",
    "engine_error": "d5_a_refusal_without_a_table_is_never_an_allow",
}
"""What a case can't bring about, and the test that does."""


@cache
def defined() -> frozenset[str]:
    """The words of the engine's own list."""
    words = re.search(r"pub fn word\(self\).*?\n    }\n", DEFINED.read_text(encoding="utf-8"), re.DOTALL)
    assert words is not None
    return frozenset(re.findall(r'=> "(\w+)"', words[0]))


@cache
def expected_by_cases() -> frozenset[str]:
    """What cases expect, and what they expect an audit to say."""
    files = [*(ROOT / "tests" / "cases").rglob("*.yaml"), *(ROOT / "policies").rglob("policytest.yaml")]
    expectations = [case.body["expect"] for file in files for case in read_cases(file)]
    return frozenset(str(each["reason"]) for each in expectations if "reason" in each)


@pytest.mark.promise("P-15")
@pytest.mark.shows("D4")
def test_p_15_every_reason_is_written_down() -> None:
    paragraph = re.search(r"^- \*\*D4\*\* (.*?)^- \*\*D5", SEMANTICS.read_text(encoding="utf-8"), re.M | re.S)
    assert paragraph is not None
    written = {word.partition(":")[0] for word in re.findall(r"`([\w:<> ]+)`", paragraph[1])}
    assert written == defined()


@pytest.mark.promise("P-15")
@pytest.mark.shows("D4")
@pytest.mark.parametrize("reason", sorted(defined() - NOT_YET.keys()))
def test_p_15_every_reason_that_can_be_given_has_a_test(reason: str) -> None:
    if reason not in SHOWN_BY_NO_CASE:
        assert reason in {each.partition(":")[0] for each in expected_by_cases()}
        return
    name = SHOWN_BY_NO_CASE[reason]
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "proxy").rglob("*.rs")]
    assert any(f" {name}(" in file.read_text(encoding="utf-8") for file in files), name


@pytest.mark.promise("P-15")
def test_p_15_a_reason_that_nobody_gives_yet_is_given_nowhere() -> None:
    """So that whoever begins to give it comes by here."""
    variants = {"".join(part.title() for part in reason.split("_")) for reason in NOT_YET}
    crates = (ROOT / "proxy" / "engine" / "src", ROOT / "proxy" / "dataplane" / "src")
    files = [file for crate in crates for file in crate.rglob("*.rs") if file != DEFINED]
    giving = {
        variant for variant in variants for file in files if f"Reason::{variant}" in file.read_text("utf-8")
    }
    assert giving == set()
