"""What a run measured, for its last lines: one line at a time, in the node's folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = "POLICYD_NODE"
"""The variable that names the node's folder to the tests."""
FILE = "report.txt"


def note(line: str) -> None:
    """Say a line now, and again at the end of the run."""
    sys.stdout.write(f"\n{line}\n")
    with (Path(os.environ[FOLDER]) / FILE).open("a") as file:
        file.write(f"{line}\n")
