"""One template from an object's text and its variants: lines that a choice changes stand under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A choice that a user has: when it is made, and install settings in which it is.

    `within` is the choice that this one can only be made beside; it is compared with that one's variant.
    """

    condition: str
    values: dict[str, Any] = field(default_factory=dict)
    within: Choice | None = None


def chosen_lines(base: str | None, variants: Mapping[Choice, str | None]) -> str:
    """Return a template that gives `base`, or what a choice makes of it (None: nothing).

    Choices must change different lines. Raises ValueError where two change the same.
    """
    changing = {
        choice: text
        for choice, text in variants.items()
        if text != (base if choice.within is None else variants[choice.within])
    }
    if base is None:
        return _absent(changing, variants)
    gone = [choice for choice, text in changing.items() if text is None]
    kept = {choice: text for choice, text in changing.items() if text is not None}
    body = _merged(base, kept)
    if gone:
        conditions = " ".join(f"({choice.condition})" for choice in gone)
        return f"{{{{- if not (or {conditions}) }}}}\n{body}{{{{- end }}}}\n"
    return body


def _absent(changing: Mapping[Choice, str | None], variants: Mapping[Choice, str | None]) -> str:
    """Return an object that is there under one choice only, with what further choices within make of it."""
    outer = next(choice for choice in changing if choice.within is None)
    inner = {choice: variants[choice] or "" for choice in changing if choice.within is outer}
    body = _merged(variants[outer] or "", inner)
    return f"{{{{- if {outer.condition} }}}}\n{body}{{{{- end }}}}\n"


def _merged(base: str, variants: Mapping[Choice, str]) -> str:
    lines = base.splitlines(keepends=True)
    edits: dict[int, tuple[int, list[str]]] = {}
    for choice, text in variants.items():
        other = text.splitlines(keepends=True)
        for tag, start, end, first, last in SequenceMatcher(None, lines, other, autojunk=False).get_opcodes():
            if tag == "equal":
                continue
            if any((start < until and at < end) or start == at for at, (until, _) in edits.items()):
                raise ValueError(f"two choices change line {start + 1} of\n{base}")
            edits[start] = (end, _branch(choice, other[first:last], lines[start:end]))
    return _edited(lines, edits)


def _branch(choice: Choice, chosen: list[str], otherwise: list[str]) -> list[str]:
    if not chosen:
        return [f"{{{{- if not ({choice.condition}) }}}}\n", *otherwise, "{{- end }}\n"]
    last = ["{{- else }}\n", *otherwise] if otherwise else []
    return [f"{{{{- if {choice.condition} }}}}\n", *chosen, *last, "{{- end }}\n"]


def _edited(lines: list[str], edits: Mapping[int, tuple[int, list[str]]]) -> str:
    made: list[str] = []
    at = 0
    while at <= len(lines):
        if at in edits:
            until, text = edits[at]
            made += text
            if until > at:
                at = until
                continue
        if at < len(lines):
            made.append(lines[at])
        at += 1
    return "".join(made)
