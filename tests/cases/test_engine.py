"""Every case and every sample's test through the product: manifests, compiler, snapshot, engine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from policyd.explain.policytest import TestFile, find_tests
from policyd.explain.testrun import Outcome, run

ROOT = Path(__file__).parent.parent.parent
CASES = Path(__file__).parent


@cache
def outcomes(path: Path, name: str) -> dict[str, Outcome]:
    """The outcomes of one PolicyTest by the names of its cases; its manifests are compiled once."""
    file = next(file for file in policy_tests(path) if file.test.metadata.name == name)
    return {outcome.case.name: outcome for outcome in run(file)}


@cache
def policy_tests(path: Path) -> tuple[TestFile, ...]:
    found = find_tests([path])
    assert not found.problems, "\n".join(problem.text for problem in found.problems)
    return found.files


def all_cases() -> list[object]:
    return [
        pytest.param(
            file.path, file.test.metadata.name, case.name, id=f"{file.path.relative_to(ROOT)}::{case.name}"
        )
        for folder in (CASES, ROOT / "policies")
        for file in policy_tests(folder)
        for case in file.test.cases
    ]


@pytest.mark.parametrize(("path", "test", "case"), all_cases())
def test_the_engine_decides_as_the_case_expects(path: Path, test: str, case: str) -> None:
    assert outcomes(path, test)[case].wrong == ()


def test_there_are_as_many_cases_as_promised() -> None:
    assert sum(len(file.test.cases) for file in policy_tests(CASES)) >= 400


def test_every_policy_test_of_a_folder_has_a_name_of_its_own() -> None:
    names = [(file.path.parent, file.test.metadata.name) for file in policy_tests(CASES)]
    assert len(names) == len(set(names))
