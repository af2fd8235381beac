"""Every row of the list of faults for a CA has a test that carries its id, or stands here with the reason."""

from __future__ import annotations

import re
from pathlib import Path

LEFT_OUT: dict[str, str] = {}
ROWS = {f"ID-{number:02}" for number in range(1, 13)}


def test_every_row_is_shown_or_left_out_with_a_reason() -> None:
    tests = Path(__file__).parents[2]
    shown = {
        f"ID-{number}"
        for file in tests.rglob("test_identity_*.py")
        for number in re.findall(r"def test_id_(\d\d)_", file.read_text())
    } | {
        f"ID-{number}"
        for file in Path(__file__).parent.glob("test_*.py")
        for number in re.findall(r"def test_id_(\d\d)_", file.read_text())
    }
    assert shown | LEFT_OUT.keys() == ROWS
    assert not shown & LEFT_OUT.keys()
