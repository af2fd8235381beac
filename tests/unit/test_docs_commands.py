"""Commands in the documents that begin with `$` print what stands below them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from policyd.cli.main import run

ROOT = Path(__file__).parents[2]
PAGES = ("docs/how-to/from-linkerd.md",)
INDENT = "    "
PROMPT = f"{INDENT}$ policyctl "


class Shown(NamedTuple):
    """A command of a page, and the lines below it; `…` stands for anything."""

    page: str
    words: str
    lines: tuple[str, ...]


def shown(page: str) -> Iterator[Shown]:
    words = ""
    lines: list[str] = []
    for line in [*(ROOT / page).read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith(PROMPT):
            words, lines = line.removeprefix(PROMPT), []
        elif words and line.startswith(INDENT) and line.strip():
            lines.append(line.strip())
        elif words:
            yield Shown(page, words, tuple(lines))
            words = ""


ALL = [each for page in PAGES for each in shown(page)]


def pattern(line: str) -> re.Pattern[str]:
    """What a shown line stands for: runs of blanks are one, `…` is anything."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
    return re.compile(r".*".join(parts))


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.words)
def test_a_command_prints_what_the_page_shows(
    command: Shown, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")
    run(shlex.split(command.words))
    said = capsys.readouterr()
    left = [line.strip() for line in said.out.splitlines()]
    assert command.lines, "a page shows what comes of a command"
    for line in command.lines:
        found = next((at for at, each in enumerate(left) if pattern(line).search(each)), None)
        assert found is not None, f"{line!r} is none of, or before:\n{said.out}{said.err}"
        left = left[found + 1 :]


def test_the_pages_show_commands() -> None:
    assert len(ALL) >= 10


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
