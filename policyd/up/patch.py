"""Applying a unified diff, as `policyctl explain` prints one, to the files it names."""

from __future__ import annotations

import re
from pathlib import Path

from policyd.errors import SourceError

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")


def apply_patch(patch: str) -> list[Path]:
    """Change the files that the diff is about; return them. SourceError where one isn't what it was."""
    parts = re.split(r"(?m)^(?=--- )", patch)
    return [_apply_to_file(part.splitlines()) for part in parts if part.strip()]


def _apply_to_file(lines: list[str]) -> Path:
    file = Path(lines[1].removeprefix("+++ ").split("\t")[0])
    before = file.read_text().splitlines() if file.exists() else []
    after: list[str] = []
    position = 0
    for line in lines[2:]:
        hunk = _HUNK.match(line)
        if hunk:
            begin = max(int(hunk[1]) - 1, 0)
            after += before[position:begin]
            position = begin
            continue
        mark, text = line[:1], line[1:]
        if mark in {" ", "-", ""}:
            if position >= len(before) or before[position] != text:
                raise SourceError(f"{file}:{position + 1}: expected {text!r}: the file has changed since")
            position += 1
        if mark != "-":
            after.append(text)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text("\n".join([*after, *before[position:]]) + "\n")
    beside.replace(file)
    return file
