"""`docs/reference/tests-by-row.md` against the tree: every row has a test, or the reason why not."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "tests-by-row.md"
COUNTS = {"PC": 14, "ID": 12, "H1": 21, "H2": 18, "GR": 8, "L4": 20, "AU": 6, "WH": 10, "CT": 15}
ROWS = {f"{letters}-{number:02}" for letters, count in COUNTS.items() for number in range(1, count + 1)}
ROWS |= {f"CL-{number:02}" for number in range(1, 8)} | {f"DB-{number:02}" for number in range(1, 5)}
ROWS |= {"TLS-12"}  # of that table the others aren't listed yet
PROMISES = {f"P-{number}" for number in range(1, 21)}
REASON = re.compile(r"left out: \S.{14,}")
MARKED = re.compile(r'mark\.promise\("(P-\d+)"\)')


@cache
def listed() -> dict[str, str]:
    """The last cell of each row, by id."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")
    ]
    rows = [each for each in cells if re.fullmatch(r"[A-Z0-9]+-\d+", each[0])]
    assert all(len(each) == 3 and each[1] for each in rows)
    assert len({each[0] for each in rows}) == len(rows), "a row stands there twice"
    return {each[0]: each[2] for each in rows}


@cache
def functions() -> frozenset[str]:
    """Names of all Python tests and of all Rust functions that are tests."""
    python = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    attribute = re.compile(r"#\[(?:tokio::)?test(?:\([^)]*\))?\]\s+(?:async )?fn (\w+)")
    rust = {
        name
        for file in (ROOT / "proxy").rglob("*.rs")
        for name in attribute.findall(file.read_text(encoding="utf-8"))
    }
    return frozenset(python | rust)


def carrying(row: str) -> set[str]:
    """The tests whose names begin with the id."""
    begin = row.lower().replace("-", "_") + "_"
    return {name for name in functions() if name.removeprefix("test_").startswith(begin)}


def test_the_page_lists_every_row() -> None:
    assert set(listed()) == ROWS | PROMISES


@pytest.mark.parametrize("row", sorted(ROWS | PROMISES))
def test_a_row_has_tests_that_are_there_or_a_reason(row: str) -> None:
    cell = listed()[row]
    if cell.startswith("left out"):
        assert REASON.match(cell), f"{row}: say why"
        assert not carrying(row), f"{row} is left out and has tests: {carrying(row)}"
        return
    named = set(re.findall(r"`(\w+)`", cell))
    assert named, f"{row}: neither a test nor `left out: reason`"
    assert sorted(named - functions()) == []


def test_a_test_that_carries_an_id_carries_that_of_a_row() -> None:
    ids = {
        f"{letters.upper()}-{number}"
        for name in functions()
        for letters, number in re.findall(r"^(?:test_)?(pc|id|h1|h2|gr|l4|au|ct|wh|cl|db)_(\d\d)_", name)
    }
    assert sorted(ids - ROWS) == []


def test_marked_promises_are_listed_as_held() -> None:
    marked = {
        promise
        for file in (ROOT / "tests").rglob("test_*.py")
        for promise in MARKED.findall(file.read_text(encoding="utf-8"))
    }
    assert sorted(promise for promise in marked if listed()[promise].startswith("left out")) == []
