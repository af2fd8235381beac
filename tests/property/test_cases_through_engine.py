"""The case files, through compile and engine: what `policyctl test` does with them."""

from functools import cache
from pathlib import Path

import pytest

from policyd.explain.policytest import TestFile, find_tests
from policyd.explain.testrun import run

CASES = Path(__file__).parent.parent / "cases"


@cache
def files() -> tuple[TestFile, ...]:
    return find_tests([CASES]).files


def test_every_file_can_be_read() -> None:
    assert find_tests([CASES]).problems == ()


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.path.relative_to(CASES)))
def test_product_decides_as_the_cases_expect(file: TestFile) -> None:
    assert [f"{outcome.place}: {outcome.case.name}" for outcome in run(file) if not outcome.passed] == []
