"""Programs of others, which `make tools` gets into `build/tools`; without one the test says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "build" / "tools"


def tool(name: str) -> Path:
    """A program's path. Skips, loudly, where `make tools` couldn't get it."""
    for folder in (FOLDER / "bin", FOLDER / "debian" / "usr" / "bin"):
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"NOT PROVED: {name} isn't in build/tools (make tools gets it where Go and apt are)")


def libraries() -> dict[str, str]:
    """The environment in which programs of Debian's packages find their libraries."""
    found = sorted(str(folder) for folder in (FOLDER / "debian" / "usr" / "lib").glob("*-linux-gnu"))
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(found)}


FIGURES: list[str] = []
"""What tests have to say beside that they passed."""


def tell(line: str) -> None:
    """Have a line printed at the end of the run, passed or not."""
    FIGURES.append(line)
