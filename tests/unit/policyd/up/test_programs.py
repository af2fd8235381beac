"""Where containers and the run find programs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from policyd.up.programs import search_path


def test_containers_find_this_interpreter_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    found = shutil.which("python3", path=search_path())
    assert found is not None
    assert Path(found).parent == Path(sys.executable).parent
    monkeypatch.delenv("PATH")
    assert search_path().endswith(os.pathsep + os.defpath)
