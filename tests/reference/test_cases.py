"""Every case file, through the reference evaluator."""

from pathlib import Path

import pytest

from tests.reference.policytest import Case, read_cases, run

CASES = Path(__file__).parent.parent / "cases"


def all_cases() -> list[Case]:
    return [case for file in sorted(CASES.rglob("*.yaml")) for case in read_cases(file)]


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.file.relative_to(CASES)}::{case.name}")
def test_reference_evaluator_decides_as_the_case_expects(case: Case) -> None:
    _, wrong = run(case)
    assert not wrong
