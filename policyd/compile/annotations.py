"""The annotations of pods and namespaces that decide, and what can't be read of them (decision record 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from policyd.compile.access import NAMES, parse_access
from policyd.index.shapes import DEFAULT_ACCESS, OPAQUE_PORTS, ContainerPort

MOST_OPAQUE = 1024
"""How many ports annotations can list as opaque, or leave out of all: each is a row of its own (promise P-8).

32,000 of them cost 0.4 s and 430 KB a shape, and whoever may create pods may create many shapes.
"""
Span = tuple[int, int]
"""From a port to another, both included."""

_LAST_PORT = 65_535
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def default_accesses(annotations: Mapping[str, str]) -> list[str]:
    """Return the default accesses given, in either spelling; both count (semantics W4)."""
    return [annotations[name] for name in DEFAULT_ACCESS if name in annotations]


def opaque_ports(annotations: Mapping[str, str], declared: Iterable[ContainerPort]) -> frozenset[int] | None:
    """Return the ports listed in either spelling, without what can't be read; None where neither is there.

    A list beyond the bound can't be read: none of its ports is opaque.
    """
    if not any(name in annotations for name in OPAQUE_PORTS):
        return None
    # FAIL-CLOSED: what isn't opaque is read, and refused where it must be read and can't.
    return _ports_of(tuple(_spans(annotations, declared)))


@lru_cache(maxsize=1024)
def _ports_of(spans: tuple[Span, ...]) -> frozenset[int]:
    """Return the ports, the same set for the same spans; none where they are too many."""
    if _are_too_many(_count(spans)):
        return frozenset()
    return frozenset(number for first, last in spans for number in range(first, last + 1))


def _spans(annotations: Mapping[str, str], declared: Iterable[ContainerPort]) -> list[Span]:
    """Return what is listed as spans that don't overlap: a list can name every port a thousand times."""
    written = [annotations[name] for name in OPAQUE_PORTS if name in annotations]
    merged: list[Span] = []
    for first, last in sorted(
        span for text in written for part in _parts(text) for span in _read(part, declared)
    ):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _count(spans: Iterable[Span]) -> int:
    return sum(last - first + 1 for first, last in spans)


def _are_too_many(ports: int) -> bool:
    return MOST_OPAQUE < ports < _LAST_PORT - MOST_OPAQUE


def doubts(
    annotations: Mapping[str, str], declared: Iterable[ContainerPort] | None
) -> Iterator[tuple[str, str]]:
    """Yield (annotation, what is wrong with it). `declared` None: of a namespace; names can't be judged."""
    for name in DEFAULT_ACCESS:
        if name in annotations and parse_access(annotations[name]) is None:
            yield name, f"{annotations[name]!r} counts as deny: expected one of {', '.join(NAMES)}"
    for name in OPAQUE_PORTS:
        for part in _parts(annotations.get(name, "")):
            by_name = _RANGE.fullmatch(part) is None
            if not _read(part, declared or ()) and not (by_name and declared is None):
                yield name, f"{part!r} lists no port: expected a port, a range or a container port's name"
    listed = _count(_spans(annotations, declared or ()))
    if _are_too_many(listed):
        expected = f"expected at most {MOST_OPAQUE}, or all but at most {MOST_OPAQUE}"
        first = next(name for name in OPAQUE_PORTS if name in annotations)
        yield first, f"{listed} ports, so none is opaque: {expected}"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _read(part: str, declared: Iterable[ContainerPort]) -> list[Span]:
    found = _RANGE.fullmatch(part)
    if found is None:
        return [(port.number, port.number) for port in declared if port.name == part]
    first, last = int(found[1]), int(found[2] or found[1])
    return [(first, last)] if 1 <= first <= last <= _LAST_PORT else []
