"""Names of objects and workloads, and the text of paths."""

# ruff: noqa: E501 - rows of tables stay on one line

import pytest

from policyd.errors import RequestRefused, ResourceError
from policyd.model.finding import Finding
from policyd.model.names import ObjectKey, WorkloadName, is_namespace_name, is_object_name, parse_workload
from policyd.model.origin import FieldPath, Origin, parse_path, path_text


@pytest.mark.parametrize(
    ("key", "text", "origin"),
    [
        (ObjectKey("policyd.dev", "Server", "books", "web"), "server.policyd.dev/books/web", "policyd.dev/Server/books/web"),
        (ObjectKey("policyd.dev", "MeshDefaults", "", "default"), "meshdefaults.policyd.dev/default", "policyd.dev/MeshDefaults/default"),
        (ObjectKey("", "ServiceAccount", "books", "web"), "serviceaccount/books/web", "core/ServiceAccount/books/web"),
    ],
)  # fmt: skip
def test_object_keys(key: ObjectKey, text: str, origin: str) -> None:
    assert key.text == text
    assert key.at("") == origin
    assert key.at("spec.a") == f"{origin}:spec.a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deployment/emojivoto/voting", WorkloadName("deployment", "emojivoto", "voting")),
        ("deploy/voting", WorkloadName("deployment", "books", "voting")),
        ("sts/x/y", WorkloadName("statefulset", "x", "y")),
        ("ExternalWorkload/x/y", WorkloadName("externalworkload", "x", "y")),
        ("voting-abc-1", WorkloadName("pod", "books", "voting-abc-1")),
    ],
)
def test_workloads(text: str, expected: WorkloadName) -> None:
    assert parse_workload(text, "books") == expected
    assert parse_workload(expected.text) == expected


@pytest.mark.parametrize(
    "text", ["", "svc/a/b", "deploy/a/b/c", "deploy/A/b", "deploy//b", "a b", "deploy/a/b."]
)
def test_what_names_no_workload(text: str) -> None:
    with pytest.raises(ResourceError, match="names no workload"):
        parse_workload(text)


@pytest.mark.parametrize(
    "name", ["", "A", "a_b", "-a", "a-", "a..b", "ａ", "a\u200bb", "e\u0301", "é", "a" * 254, "a\n"]
)
def test_names_are_bytes_of_one_small_alphabet(name: str) -> None:
    """PC-12: there is one way to write a name, so names compare byte for byte."""
    assert not is_object_name(name)
    assert not is_namespace_name(name)


def test_a_namespace_has_no_dots() -> None:
    assert is_object_name("a.b")
    assert not is_namespace_name("a.b")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("spec", "networks", 0, "cidr"), "spec.networks[0].cidr"),
        (
            ("metadata", "annotations", "policyd.dev/default-access"),
            'metadata.annotations["policyd.dev/default-access"]',
        ),
        ((), ""),
        ((0, "a"), "[0].a"),
    ],
)
def test_paths(path: FieldPath, text: str) -> None:
    assert path_text(path) == text
    assert parse_path(text) == path


def test_a_finding_is_one_line() -> None:
    key = ObjectKey("policyd.dev", "Server", "books", "web")
    finding = Finding(
        "error", "bad-value", "0 is no port", key, "spec.port", Origin("a.yaml", 3, 4), "use another"
    )
    assert (
        finding.text
        == "a.yaml:3:4: error[bad-value] server.policyd.dev/books/web spec.port: 0 is no port; use another"
    )
    assert Finding("warning", "x", "y").text == "warning[x] y"
    assert Origin(generation=3).text == "generation 3"


def test_a_refusal_says_rule_offset_and_field() -> None:
    assert str(RequestRefused("G1", 3, "host")) == "refused by gate rule G1 at byte 3 (host)"
    assert str(RequestRefused("limits")) == "refused by gate rule limits"
