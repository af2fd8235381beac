"""From a parser's events to plain values and their places, within limits."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from policyd.model.finding import Finding
from policyd.model.origin import Mark, Origin

MOST_DEPTH = 64
MOST_VALUES = 2_000_000
"""In one file, aliases counted as what they stand for."""
MOST_ALIASED = 10_000
"""Values that one file may have through aliases: manifests have a handful, alias bombs millions."""
MOST_PROBLEMS = 20

_TAG = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})", re.ASCII)
_OTHER_INT = re.compile(r"[-+]?(0x[0-9a-fA-F]{1,16}|0o?[0-7]{1,21}|0b[01]{1,64})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_MERGE = "<<"


class Refused(Exception):  # noqa: N818
    """The file is refused whole; the problem is noted already."""


@dataclass(slots=True)
class _Open:
    """A mapping or sequence whose end has not come. A mapping's `key` is set between key and value."""

    value: dict[str, Any] | list[Any]
    marks: Any
    at: tuple[int, int]
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_at: tuple[int, int] = (0, 0)
    merged: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an alias stands for, and how many values that is."""

    value: Any
    inside: Any
    size: int


class Builder:
    """Takes the events of one file in their order. `documents` are (value, mark) pairs."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.documents: list[tuple[Any, Mark]] = []
        self.problems: list[Finding] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored] = {}
        self._values = 0
        self._aliased = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event. Raises Refused where the file can't be gone on with."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._anchors.clear()

    def refuse(self, mark: Any, message: str) -> None:
        """Note a problem and give the file up."""
        self._note((mark.line + 1, mark.column + 1), message)
        raise Refused

    def _note(self, at: tuple[int, int], message: str) -> None:
        self.problems.append(Finding("error", "invalid-yaml", message, origin=Origin(self.file, *at)))
        if len(self.problems) >= MOST_PROBLEMS:
            raise Refused

    def _count(self, mark: Any, size: int = 1) -> None:
        self._values += size
        if self._values > MOST_VALUES:
            self.refuse(mark, f"more than {MOST_VALUES} values: split the file")

    def _begin(self, event: Any) -> None:
        at = _at(event)
        self._count(event.start_mark)
        if len(self._open) >= MOST_DEPTH:
            self.refuse(event.start_mark, f"nested more than {MOST_DEPTH} deep")
        mapping = isinstance(event, yaml.MappingStartEvent)
        if not event.implicit and event.tag not in {_TAG + "map", _TAG + "seq", None}:
            self._note(at, f"tag {event.tag!r}: expected plain values without tags")
        around = self._open[-1] if self._open else None
        if around is not None and isinstance(around.value, dict) and around.key is None:
            self.refuse(event.start_mark, "a mapping or list as a key: expected text")
        self._open.append(_Open({} if mapping else [], {} if mapping else [], at, event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        if done.anchor is not None:
            self._anchors[done.anchor] = _Anchored(done.value, done.marks, done.size)
        self._put(done.value, done.marks, done.at, done.size)

    def _scalar(self, event: Any) -> None:
        at = _at(event)
        self._count(event.start_mark)
        around = self._open[-1] if self._open else None
        if around is not None and isinstance(around.value, dict) and around.key is None:
            self._key(around, event, at)
            return
        value = self._plain(event, at)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, None, 1)
        self._put(value, None, at, 1)

    def _key(self, around: _Open, event: Any, at: tuple[int, int]) -> None:
        """Return a key is the text as written, whatever type that would have as a value."""
        key = event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(key, None, 1)
        if key in around.value and key not in around.merged:
            first: Mark = around.marks[key]
            self._note(at, f"key {key!r:.80} a second time: first in line {first.line}")
        around.merged.discard(key)
        around.key, around.key_at = key, at

    def _alias(self, event: Any) -> None:
        found = self._anchors.get(event.anchor)
        if found is None:
            self.refuse(
                event.start_mark, f"alias *{event.anchor} to an anchor that is not there or not complete"
            )
            return
        self._count(event.start_mark, found.size)
        self._aliased += found.size
        if self._aliased > MOST_ALIASED:
            self.refuse(
                event.start_mark, f"aliases stand for more than {MOST_ALIASED} values: write them out"
            )
        around = self._open[-1] if self._open else None
        if around is not None and isinstance(around.value, dict) and around.key is None:
            self.refuse(event.start_mark, "an alias as a key: expected text")
        self._put(found.value, found.inside, _at(event), found.size)

    def _put(self, value: Any, inside: Any, at: tuple[int, int], size: int) -> None:
        """Put a finished value where it belongs."""
        if not self._open:
            self.documents.append((value, Mark(*at, inside)))
            return
        around = self._open[-1]
        around.size += size
        if isinstance(around.value, list):
            around.value.append(value)
            around.marks.append(Mark(*at, inside))
            return
        key, around.key = around.key, None
        if key == _MERGE:
            self._merge(around, value, inside)
        elif key is not None:
            around.value[key] = value
            around.marks[key] = Mark(*around.key_at, inside)

    def _merge(self, around: _Open, value: Any, inside: Any) -> None:
        """`<<: *anchor`: the anchor's entries, where the mapping has none of its own.

        The first of several wins.
        """
        pairs: Any = (
            zip(value, inside, strict=True) if isinstance(value, list) else [(value, Mark(0, 0, inside))]
        )
        for source, mark in pairs:
            if not isinstance(source, dict):
                self._note(around.key_at, "`<<` with something that is no mapping")
                return
            for key, entry in source.items():
                if key not in around.value:
                    around.value[key] = entry
                    around.marks[key] = mark.inside[key]
                    around.merged.add(key)

    def _plain(self, event: Any, at: tuple[int, int]) -> Any:
        """Return the value of a scalar: text where it is quoted; timestamps and sexagesimals stay text."""
        text: str = event.value
        if event.tag is not None and event.tag != "!":
            return self._tagged(event, text, at)
        if not event.implicit[0] or event.tag == "!":
            return text
        return plain_value(text)

    def _tagged(self, event: Any, text: str, at: tuple[int, int]) -> Any:
        kind = event.tag.removeprefix(_TAG)
        if kind == "str":
            return text
        value = plain_value(text)
        names = {"int": int, "bool": bool, "null": type(None)}
        if kind in names and type(value) is names[kind]:
            return value
        if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        self._note(at, f"tag {event.tag!r}: expected plain values without tags")
        return None


def _at(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def plain_value(text: str) -> str | int | float | bool | None:
    """Tell what text without quotes stands for, in YAML 1.1 as Kubernetes' tools read it."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return _other_int(text)
    if len(text) <= 64 and _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _other_int(text: str) -> int:
    """Hexadecimal, octal (also with a bare 0 in front) and binary numbers."""
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-").lower()
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)):
        if digits.startswith(prefix):
            return sign * int(digits.removeprefix(prefix) or "0", base)
    return sign * int(digits)
