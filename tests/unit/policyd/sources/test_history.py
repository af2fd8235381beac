"""Who wrote a line, and when."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyd.model.origin import Origin
from policyd.sources.history import written


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
    environment = {
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z",
        "HOME": str(folder),
    }
    subprocess.run(
        ("git", *identity, *arguments), cwd=folder, env=environment, check=True, capture_output=True
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.yaml").write_text("one\ntwo\n")
    git(tmp_path, "add", "a.yaml")
    git(tmp_path, "commit", "-q", "-m", "Write a")
    return tmp_path


def test_a_committed_line_has_an_author(repository: Path) -> None:
    found = written(Origin(str(repository / "a.yaml"), 2, 1))
    assert found is not None
    assert (found.author, found.at) == ("Ada", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert found.commit is not None
    assert len(found.commit) == 40


def test_an_uncommitted_line_has_the_files_time(repository: Path) -> None:
    path = repository / "a.yaml"
    path.write_text("one\nother\n")
    found = written(Origin(str(path), 2, 1))
    assert found is not None
    assert found.author is None
    assert found.at.timestamp() == pytest.approx(path.stat().st_mtime)


def test_outside_of_a_repository(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one\n")
    found = written(Origin(str(tmp_path / "a.yaml"), 1, 1))
    assert found is not None
    assert found.author is None


def test_nothing_is_known_of_what_is_not_there(tmp_path: Path) -> None:
    assert written(Origin(str(tmp_path / "a.yaml"), 1, 1)) is None
    assert written(Origin(generation=3)) is None
