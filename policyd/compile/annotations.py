"""The annotations of pods and namespaces that decide, and what can't be read of them (decision record 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from policyd.compile.access import NAMES, parse_access
from policyd.index.shapes import DEFAULT_ACCESS, OPAQUE_PORTS, ContainerPort

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def default_accesses(annotations: Mapping[str, str]) -> list[str]:
    """Return the default accesses given, in either spelling; both count (semantics W4)."""
    return [annotations[name] for name in DEFAULT_ACCESS if name in annotations]


def opaque_ports(annotations: Mapping[str, str], declared: Iterable[ContainerPort]) -> frozenset[int] | None:
    """Return the ports listed in either spelling, without what can't be read; None where neither is there."""
    written = [annotations[name] for name in OPAQUE_PORTS if name in annotations]
    if not written:
        return None
    return frozenset(
        number for text in written for part in _parts(text) for number in _numbers(part, declared)
    )


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
            if not _numbers(part, declared or ()) and not (by_name and declared is None):
                yield name, f"{part!r} lists no port: expected a port, a range or a container port's name"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(part: str, declared: Iterable[ContainerPort]) -> list[int]:
    found = _RANGE.fullmatch(part)
    if found is None:
        return [port.number for port in declared if port.name == part]
    first, last = int(found[1]), int(found[2] or found[1])
    return list(range(first, last + 1)) if 1 <= first <= last <= 65535 else []
