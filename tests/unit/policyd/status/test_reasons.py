"""The closed list of reasons against the code that finds, and against the page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from policyd.status import reasons

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "reference" / "conditions.md"
FINDING = {"about": 1, "Finding": 1, "add": 0}
"""The place of the code among the arguments of what makes a finding."""
PROBLEM = {"resources": 1, "compile": 0}


def codes() -> Iterator[str]:
    """Every code that stands in the code of what reads, compiles and follows."""
    for room in ("resources", "compile", "sources"):
        for file in sorted((ROOT / "policyd" / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield from _code(node, room)


def _code(call: ast.Call, room: str) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    place = PROBLEM.get(room) if name == "Problem" else FINDING.get(name)
    if place is None or len(call.args) <= max(place, 1):
        return
    code = call.args[place]
    value = code.value if isinstance(code, ast.Constant) else None
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z]+(-[a-z]+)*", value):
        yield value


def test_every_code_of_a_finding_has_a_reason_and_every_reason_a_code() -> None:
    found = set(codes())
    assert found - reasons.WITHOUT_OBJECT == reasons.FINDINGS.keys()
    assert found >= reasons.WITHOUT_OBJECT


def test_reasons_are_what_the_api_takes() -> None:
    for name, _, means in reasons.page_rows():
        assert re.fullmatch(r"[A-Z][A-Za-z]{2,63}", name)
        assert means
        assert not means.endswith(".")


def test_the_page_has_the_list() -> None:
    assert reasons.table() in PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_metric_and_bound() -> None:
    text = PAGE.read_text(encoding="utf-8")
    source = (ROOT / "policyd" / "status" / "metrics.py").read_text(encoding="utf-8")
    for metric in re.findall(r'"(policyd_[a-z_]+)"', source):
        assert metric in text, metric
