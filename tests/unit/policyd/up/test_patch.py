"""A diff that explain prints does what it says, to a file that is still what it was."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.errors import SourceError
from policyd.up.patch import apply_patch

LINES = st.lists(st.sampled_from(["a: 1", "  b", "- c", "+ d", "--- e", "@@ f", ""]), min_size=1, max_size=30)


def _diff(file: Path, before: list[str], after: list[str]) -> str:
    lines = difflib.unified_diff(before, after, str(file), str(file), lineterm="")
    return "\n".join(lines) + "\n"


@given(
    before=LINES.filter(lambda lines: "--- e" not in lines),
    after=LINES.filter(lambda lines: "--- e" not in lines),
)
def test_what_was_diffed_comes_out(
    before: list[str], after: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("patch") / "f.yaml"
    file.write_text("\n".join(before) + "\n")
    if before != after:
        assert apply_patch(_diff(file, before, after)) == [file]
    assert file.read_text() == "\n".join(after) + "\n"


def test_a_file_that_changed_since_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    patch = _diff(file, ["a", "b"], ["a", "c"])
    file.write_text("a\nx\n")
    with pytest.raises(SourceError, match="changed since"):
        apply_patch(patch)
    assert file.read_text() == "a\nx\n"
