"""Edits of YAML text leave every other byte as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from yaml.nodes import Node

from policyd.explain.edit import (
    CannotEditError,
    add_entry,
    append_document,
    append_item,
    node_at,
    set_scalar,
    unified_diff,
)
from policyd.model.origin import FieldPath
from policyd.sources.yaml_documents import parse

TEXT = """\
# a comment
apiVersion: v1
kind: First
metadata: {name: größe}
---
apiVersion: v1
kind: Second
spec:
  block:
  - one   # why
  - two: 2
    three: 3

  # between
  flow: [x, y]
  empty: []
  nothing: {}
  deep:
    key: value  # kept
# the end
"""


def edited(path: FieldPath, change: Callable[[str, Node], str]) -> str:
    root = parse(TEXT.encode(), "file").documents[-1].positions.root
    return change(TEXT, node_at(TEXT, root, path))


def value_at(text: str, path: FieldPath) -> object:
    value = list(yaml.safe_load_all(text))[-1]
    for part in path:
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("spec", "block"), ["one", {"two": 2, "three": 3}, "a: b"]),
        (("spec", "flow"), ["x", "y", "a: b"]),
        (("spec", "empty"), ["a: b"]),
    ],
)
def test_an_item_is_added_at_the_end_of_a_list(path: FieldPath, expected: list[object]) -> None:
    after = edited(path, lambda text, node: append_item(text, node, "a: b"))
    assert value_at(after, path) == expected
    assert {line for line in TEXT.splitlines() if "#" in line} <= set(after.splitlines())


@pytest.mark.parametrize("path", [("spec",), ("spec", "nothing"), ("spec", "deep")])
def test_an_entry_is_added_to_a_mapping(path: FieldPath) -> None:
    after = edited(path, lambda text, node: add_entry(text, node, "mode", "Audit"))
    assert value_at(after, (*path, "mode")) == "Audit"
    assert len(after.splitlines()) - len(TEXT.splitlines()) in {0, 1}


def test_a_scalar_is_replaced_and_its_comment_kept() -> None:
    after = edited(("spec", "deep", "key"), lambda text, node: set_scalar(text, node, "2026-01-01T00:00:00Z"))
    assert "    key: '2026-01-01T00:00:00Z'  # kept\n" in after


def test_a_place_that_is_not_there_can_not_be_edited() -> None:
    with pytest.raises(CannotEditError):
        edited(("spec", "absent"), lambda text, node: append_item(text, node, 1))


def test_a_scalar_takes_no_items() -> None:
    with pytest.raises(CannotEditError):
        edited(("spec", "deep", "key"), lambda text, node: append_item(text, node, 1))


def test_a_document_is_added_after_the_last_one() -> None:
    after = append_document(TEXT.rstrip("\n"), {"kind": "Third", "spec": {"list": [{"a": 1}]}})
    assert list(yaml.safe_load_all(after))[-1] == {"kind": "Third", "spec": {"list": [{"a": 1}]}}


def test_the_difference_is_a_patch_of_the_lines_that_changed() -> None:
    patch = unified_diff("f.yaml", "a\nb\n", "a\nc\n")
    assert patch == "--- f.yaml\n+++ f.yaml\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"


def test_a_missing_newline_at_the_end_is_said_as_patch_wants_it() -> None:
    assert "\\ No newline at end of file" in unified_diff("f.yaml", "a", "b")
