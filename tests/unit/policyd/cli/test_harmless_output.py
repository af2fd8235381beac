"""What is printed for machines can be looked at in a terminal (AU-05)."""

from __future__ import annotations

import json

import pytest
import yaml

from policyd.cli.output import print_data

# C1's own escape, a turn of the writing direction, a delete, a line separator, one beyond the basic plane.
HOSTILE = "a\x9b31m\u202eb\x7f\u2028c\U000e0041é"


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_au_05_letters_that_a_terminal_would_obey_are_escaped(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_data({"path": HOSTILE}, "json" if output == "json" else "yaml")
    shown = capsys.readouterr().out
    assert [letter for letter in shown if letter != "\n" and not letter.isprintable()] == []
    read = json.loads(shown) if output == "json" else yaml.safe_load(shown)
    assert read == {"path": HOSTILE}


def test_letters_that_are_harmless_stay(capsys: pytest.CaptureFixture[str]) -> None:
    print_data({"path": "é"}, "yaml")
    assert capsys.readouterr().out == "path: é\n"
