"""Every sentence of the semantics is shown by a case, or by a test that says so with `pytest.mark.shows`."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

from tests.reference.policytest import Case, read_cases

TESTS = Path(__file__).parent.parent
COUNTS = {"W": 8, "I": 9, "A": 8, "V": 8, "R": 5, "T": 7, "U": 6, "D": 6}
IDS = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]
FEWEST_CASES = 400


@cache
def all_cases() -> list[Case]:
    return [case for file in sorted((TESTS / "cases").rglob("*.yaml")) for case in read_cases(file)]


def shown_by_cases() -> set[str]:
    return {shown for case in all_cases() for shown in case.body.get("shows", [])}


def shown_by_markers() -> set[str]:
    """What the arguments of `@pytest.mark.shows("W8", …)` name, anywhere in the tests."""
    found: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.shows":
                found |= {str(one.value) for one in node.args if isinstance(one, ast.Constant)}
    return found


def test_every_sentence_is_shown() -> None:
    assert sorted(set(IDS) - shown_by_cases() - shown_by_markers()) == []


def test_no_case_shows_a_sentence_that_is_not_there() -> None:
    assert sorted(shown_by_cases() - set(IDS)) == []


def test_there_are_as_many_cases_as_promised() -> None:
    assert len(all_cases()) >= FEWEST_CASES


def test_names_of_cases_tell_them_apart() -> None:
    names = Counter(f"{case.file}: {case.name}" for case in all_cases())
    assert [name for name, count in names.items() if count > 1] == []


def test_every_case_asks_one_thing_and_expects_a_verdict() -> None:
    for case in all_cases():
        assert len({"http", "grpc", "tcp", "tls"} & set(case.body)) == 1, case.name
        assert case.body["expect"]["verdict"] in ("allow", "deny"), case.name
