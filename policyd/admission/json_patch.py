"""From two states of an object to the JSON patch between them (RFC 6902), as small as an injection needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Operation = dict[str, Any]


def operations(before: Any, after: Any, path: str = "") -> Iterator[Operation]:
    """Yield what turns `before` into `after`: mappings by key, lists by what was put in front or behind."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _members(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and before:
        yield from _items(before, after, path)
    else:
        yield {"op": "replace", "path": path, "value": after}


def _members(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Operation]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": f"{path}/{escaped(key)}"}
    for key, value in after.items():
        place = f"{path}/{escaped(key)}"
        if key not in before:
            yield {"op": "add", "path": place, "value": value}
        else:
            yield from operations(before[key], value, place)


def _items(before: list[Any], after: list[Any], path: str) -> Iterator[Operation]:
    added = len(after) - len(before)
    if added > 0 and after[added:] == before:
        for index in range(added):
            yield {"op": "add", "path": f"{path}/{index}", "value": after[index]}
    elif added > 0 and after[: len(before)] == before:
        for item in after[len(before) :]:
            yield {"op": "add", "path": f"{path}/-", "value": item}
    else:
        yield {"op": "replace", "path": path, "value": after}


def escaped(key: str) -> str:
    """Return a key as a part of a JSON pointer (RFC 6901, 3)."""
    return key.replace("~", "~0").replace("/", "~1")
