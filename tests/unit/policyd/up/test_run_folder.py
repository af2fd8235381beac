"""The folder of a run: private, gone at the end, cleared after a run that was killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyd.errors import SourceError
from policyd.up.run_folder import RunFolder, runtime_folder


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_it_is_private_and_goes(runtime: Path) -> None:
    run = RunFolder()
    for folder in (run.path, run.pods, run.replicas, run.state("x"), runtime_folder()):
        assert folder.stat().st_mode & 0o777 == 0o700
    run.remove()
    assert list(runtime.iterdir()) == []


def test_a_killed_run_is_cleared_and_a_living_one_is_not() -> None:
    living, dead = RunFolder(), RunFolder()
    lock = dead._lock
    assert lock is not None
    os.close(lock)  # what the end of a process does
    third = RunFolder()
    assert living.path.exists()
    assert not dead.path.exists()
    living.remove()
    third.remove()


def test_a_folder_that_others_can_read_is_refused() -> None:
    runtime_folder().mkdir(mode=0o755)
    with pytest.raises(SourceError, match="0700"):
        RunFolder()
