"""Files and folders."""

import os
from pathlib import Path

import pytest

from policyd.errors import SourceError
from policyd.sources.files import find, load, read_file
from policyd.sources.yaml_documents import MOST_BYTES

ACCOUNT = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s}\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_folders_are_read_in_a_stable_order(tmp_path: Path) -> None:
    names = [
        "b.yaml",
        "a/z.yml",
        "a.json",
        "a/b/c.YAML",
        ".hidden.yaml",
        ".git/x.yaml",
        "notes.txt",
        "c.yaml~",
    ]
    write(tmp_path, dict.fromkeys(names, ACCOUNT % "a"))
    found = [str(path.relative_to(tmp_path)) for path in find(tmp_path)]
    assert found == ["a/b/c.YAML", "a/z.yml", "a.json", "b.yaml"]


def test_one_files_error_hides_no_other_file(tmp_path: Path) -> None:
    write(
        tmp_path, {"a.yaml": "a: b: c\n", "b.yaml": ACCOUNT % "b", "c.yaml": "x: 1\nx: 2\n", "d.yaml": "text"}
    )
    loaded = load([tmp_path])
    assert [found.key.name for found in loaded.objects] == ["b"]
    assert [Path(problem.origin.file or "").name for problem in loaded.unreadable] == ["a.yaml", "c.yaml"]
    assert [finding.code for finding in loaded.findings] == ["not-a-manifest"]


def test_of_an_object_written_twice_the_first_counts(tmp_path: Path) -> None:
    write(
        tmp_path, {"b.yaml": ACCOUNT % "x", "a.yaml": "# comment\n" + ACCOUNT % "x" + "---\n" + ACCOUNT % "x"}
    )
    loaded = load([tmp_path])
    assert [found.origin.text for found in loaded.objects] == [f"{tmp_path}/a.yaml:2:1"]
    assert [finding.origin.text for finding in loaded.findings] == [
        f"{tmp_path}/a.yaml:6:1",
        f"{tmp_path}/b.yaml:1:1",
    ]
    assert all(f"first in {tmp_path}/a.yaml:2:1" in finding.message for finding in loaded.findings)
    assert all(finding.severity == "error" for finding in loaded.findings)


def test_a_path_given_twice_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": ACCOUNT % "a"})
    loaded = load([tmp_path, tmp_path / "a.yaml"])
    assert (len(loaded.objects), loaded.findings) == (1, ())


def test_a_policy_test_is_no_manifest_and_no_mistake(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a.yaml": "apiVersion: policyd.dev/v1alpha1\nkind: PolicyTest\nmetadata: {name: a}\ncases: []\n"},
    )
    assert load([tmp_path]) == load([])


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        load([tmp_path / "nothing"])


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as opened:
        opened.truncate(5 * MOST_BYTES)
    content = read_file(path)
    assert ["50.0 MiB" in problem.message for problem in content.problems] == [True]


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert [problem.code for problem in load([tmp_path]).unreadable] == ["unreadable-file"]


def test_a_file_that_vanished(tmp_path: Path) -> None:
    assert [problem.code for problem in read_file(tmp_path / "a.yaml").problems] == ["unreadable-file"]
