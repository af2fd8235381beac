"""Annotations of pods that the injector reads: those anybody may set, and those nobody may (security 6.8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from policyd.admission.injection import amount, is_quantity
from policyd.compile.annotations import doubts
from policyd.index.shapes import DEFAULT_ACCESS, OPAQUE_PORTS
from policyd.model.names import POLICYD
from policyd.resources.spec import shown

PREFIX: Final = f"{POLICYD}/"
INJECT: Final = f"{PREFIX}inject"
LINKERD_INJECT: Final = "linkerd.io/inject"
OPT_OUT: Final = f"{PREFIX}opt-out"
"""A label of a namespace: with `allowed` its pods may do without a proxy."""
INJECTED: Final = f"{PREFIX}injected"
"""Set by us: a digest of what was injected."""
LOG_LEVEL: Final = f"{PREFIX}proxy-log-level"
CPU_REQUEST: Final = f"{PREFIX}proxy-cpu-request"
CPU_LIMIT: Final = f"{PREFIX}proxy-cpu-limit"
MEMORY_REQUEST: Final = f"{PREFIX}proxy-memory-request"
MEMORY_LIMIT: Final = f"{PREFIX}proxy-memory-limit"
LINKERD_CONFIG: Final = "config.linkerd.io/"
MIRROR: Final = "kubernetes.io/config.mirror"

LOG_LEVELS: Final = ("error", "warn", "info", "debug")
LEAST_MEMORY_BYTES: Final = 64 * 2**20
"""With less a proxy is killed before it says anything."""
MOST_CPU: Final = 64
MOST_MEMORY_BYTES: Final = 16 * 2**30
"""Bounds of what one annotation may ask for; what a namespace may have is for its LimitRange to say."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field, and what was expected."""

    field: str
    message: str

    @property
    def text(self) -> str:
        return f"{self.field}: {self.message}"


def annotation_field(name: str) -> str:
    """Return the path of a pod's annotation. What could be read as the end of the name is left out."""
    clean = "".join(letter for letter in name[:128] if letter.isprintable() and letter not in '"\\')
    return f'metadata.annotations["{clean}"]'


def _inject(value: str) -> str | None:
    return None if value in {"enabled", "disabled"} else "expected enabled or disabled"


def _log_level(value: str) -> str | None:
    return None if value in LOG_LEVELS else f"expected one of {', '.join(LOG_LEVELS)}"


def _cpu(value: str) -> str | None:
    if not is_quantity(value) or not 0 < amount(value) <= MOST_CPU:
        return f"expected an amount of CPU such as 100m, at most {MOST_CPU}"
    return None


def _memory(value: str) -> str | None:
    if not is_quantity(value) or not 1 <= amount(value) <= MOST_MEMORY_BYTES:
        return "expected an amount of memory such as 64Mi, at most 16Gi"
    return None


def _memory_limit(value: str) -> str | None:
    if _memory(value) is None and amount(value) >= LEAST_MEMORY_BYTES:
        return None
    return f"expected at least {LEAST_MEMORY_BYTES // 2**20}Mi and at most 16Gi"


def _any(value: str) -> str | None:
    del value
    return None


ALLOWED: Mapping[str, Callable[[str], str | None]] = {
    INJECT: _inject,
    DEFAULT_ACCESS[0]: _any,
    OPAQUE_PORTS[0]: _any,
    LOG_LEVEL: _log_level,
    CPU_REQUEST: _cpu,
    CPU_LIMIT: _cpu,
    MEMORY_REQUEST: _memory,
    MEMORY_LIMIT: _memory_limit,
    INJECTED: _any,
}
"""Annotations of our own that a pod may carry, and what is wrong with a value.

Default access and opaque ports mean what the tables make of them: a value that can't be read closes
(semantics W4), so it is told of and refuses nothing here.
"""

UNDERSTOOD_OF_LINKERD: Final = frozenset({DEFAULT_ACCESS[1], OPAQUE_PORTS[1]})


def problems(annotations: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what a pod must not carry: an unknown annotation of ours, or a value that can't be."""
    for name in sorted(annotations):
        if not name.startswith(PREFIX):
            continue
        check = ALLOWED.get(name)
        if check is None:
            known = ", ".join(sorted(each.removeprefix(PREFIX) for each in ALLOWED if each != INJECTED))
            message = f"a pod can't set it: expected one of {PREFIX}{{{known}}}"
            yield Problem(annotation_field(name), message)
            continue
        wrong = check(annotations[name])
        if wrong is not None:
            yield Problem(annotation_field(name), f"{shown(annotations[name])}: {wrong}")


def warnings(annotations: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what does something else than its author may think, and is no reason to refuse."""
    for name, message in doubts(annotations, None):
        yield Problem(annotation_field(name), message)
    for name in sorted(annotations):
        if name.startswith(LINKERD_CONFIG) and name not in UNDERSTOOD_OF_LINKERD:
            message = "has no effect here"
            if "skip" in name:
                message += ": every port and every network is under policy"
            yield Problem(annotation_field(name), message)
