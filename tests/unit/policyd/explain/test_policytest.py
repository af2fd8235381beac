"""PolicyTest files: what is read, and what a mistake in one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyd.errors import SourceError
from policyd.explain.policytest import find_tests

WELL = """\
apiVersion: policyd.dev/v1alpha1
kind: PolicyTest
metadata: {name: one}
cases:
- name: somebody asks
  to: deployment/books/authors:8080
  http: {path: /}
  expect: {verdict: deny}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "test.yaml"
    file.write_text(text)
    return file


def problem(folder: Path, old: str, new: str) -> str:
    found = find_tests([written(folder, WELL.replace(old, new))])
    assert not found.files
    return "\n".join(each.text for each in found.problems)


def test_a_test_is_found_among_other_documents(tmp_path: Path) -> None:
    file = written(tmp_path, f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: books}}\n---\n{WELL}")
    (found,) = find_tests([tmp_path]).files
    assert found.path == file
    assert found.test.metadata.name == "one"
    assert found.line_of(0) == 9


def test_headers_may_be_a_mapping_or_a_list(tmp_path: Path) -> None:
    text = WELL.replace("{path: /}", "{path: /, headers: [[a, b], [a, c]]}")
    (found,) = find_tests([written(tmp_path, text)]).files
    http = found.test.cases[0].http
    assert http is not None
    assert http.headers == (("a", "b"), ("a", "c"))


def test_an_unknown_field_is_named_with_its_place(tmp_path: Path) -> None:
    text = problem(tmp_path, "http: {path: /}", "http: {pth: /}")
    assert "test.yaml:7:10" in text
    assert "cases[0].http.pth: unknown field 'pth'" in text
    assert "did you mean path?" in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  http: {path: /}\n", "", "expected exactly one of http, grpc, tcp, tls"),
        ("  http: {path: /}\n", "  http: {path: /}\n  tcp: {}\n", "http and tcp: expected exactly one"),
        ("{verdict: deny}", "{}", "nothing is expected"),
        ("{verdict: deny}", "{verdict: denied}", "'denied': expected one of 'allow' or 'deny'"),
        ("http: {path: /}", "http: {raw: x, path: /}", "raw is the whole head"),
        ("http: {path: /}", "at: yesterday\n  http: {path: /}", "expected RFC 3339"),
        (
            "http: {path: /}",
            "from: {serviceAccount: a/b, spiffeID: x}\n  http: {path: /}",
            "serviceAccount and spiffeID: expected at most one",
        ),
    ],
)
def test_a_mistake_says_what_was_expected(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = problem(tmp_path, old, new)
    assert expected in text
    assert "test.yaml:" in text


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = problem(
        tmp_path, "http: {path: /}\n  expect: {verdict: deny}", "http: {pth: /}\n  expect: {verdct: deny}"
    )
    assert "pth" in text
    assert "verdct" in text


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    doubled = WELL + WELL[WELL.index("- name") :]
    found = find_tests([written(tmp_path, doubled)])
    assert "two cases are named 'somebody asks'" in found.problems[0].text


def test_a_pattern_that_matches_nothing_is_an_error_with_its_place(tmp_path: Path) -> None:
    text = WELL.replace("cases:", "manifests: [nothing-*.yaml]\ncases:")
    (found,) = find_tests([written(tmp_path, text)]).files
    with pytest.raises(
        SourceError, match=r"test\.yaml:4:13: manifests\[0\]: 'nothing-\*\.yaml' matches no file"
    ):
        found.manifests()
