"""Which of our parts a pod has already, and whether they are ours indeed (research: security, WH-03)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policyd.admission.annotations import Problem
from policyd.admission.injection import CONTAINERS, VOLUME_PREFIX, amount, is_quantity
from policyd.admission.pod import LISTS
from policyd.resources.spec import shown

Json = Mapping[str, Any]

_DEFAULTS: Final[Mapping[str, object]] = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "apiVersion": "v1",
    "defaultMode": 420,
    "scheme": "HTTP",
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "periodSeconds": 10,
    "failureThreshold": 3,
}
"""What the API server fills in where nothing is written, before it asks a second time."""


class Present:
    """Our containers and volumes that a pod has, by name, as they are written there."""

    def __init__(self, spec: Json) -> None:
        self.containers = _named(spec.get("initContainers"), lambda name: name in CONTAINERS)
        self.volumes = _named(spec.get("volumes"), lambda name: name.startswith(VOLUME_PREFIX))
        self._spec = spec

    def __bool__(self) -> bool:
        return bool(self.containers)

    def strangers(self, containers: Sequence[Json], volumes: Sequence[Json]) -> Iterator[Problem]:
        """Yield what has a name of ours and isn't what we would put there."""
        for name in LISTS[1:]:
            for index, each in enumerate(self._spec.get(name) or ()):
                if each["name"] in CONTAINERS:
                    message = (
                        f"{each['name']!r}: the name is the injector's, which has its containers elsewhere"
                    )
                    yield Problem(f"spec.{name}[{index}].name", message)
        yield from _compared("initContainers", self._spec, containers, CONTAINERS.__contains__)
        yield from _compared("volumes", self._spec, volumes, lambda name: name.startswith(VOLUME_PREFIX))


def _named(written: Any, ours: Any) -> dict[str, Json]:
    return {each["name"]: each for each in written or () if ours(each["name"])}


def _compared(field: str, spec: Json, wanted: Sequence[Json], ours: Any) -> Iterator[Problem]:
    by_name = {each["name"]: each for each in wanted}
    seen: set[str] = set()
    for index, each in enumerate(spec.get(field) or ()):
        name = each["name"]
        if not ours(name):
            continue
        place = f"spec.{field}[{index}]"
        if name in seen or name not in by_name:
            yield Problem(
                f"{place}.name", f"{shown(name)}: the name is the injector's, and it has no such part"
            )
        else:
            yield from difference(by_name[name], each, place)
        seen.add(name)


def difference(wanted: Any, there: Any, place: str) -> Iterator[Problem]:
    """Yield where what is there isn't what we would write, but for what the API server fills in."""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for key in wanted.keys() | there.keys():
            inner = f"{place}.{key}"
            if key in {"requests", "limits"}:
                yield from _amounts(wanted.get(key, {}), there.get(key, {}), inner)
            elif key not in wanted:
                if there[key] is not None and there[key] != _DEFAULTS.get(key, there):
                    yield Problem(inner, f"{shown(there[key])}: the injector writes no such field")
            else:
                yield from difference(wanted[key], there.get(key), inner)
    elif isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        for index, (one, other) in enumerate(zip(wanted, there, strict=True)):
            yield from difference(one, other, f"{place}[{index}]")
    elif wanted != there and not _same_amount(wanted, there):
        yield Problem(place, f"{shown(there)}: the injector writes {shown(wanted)}")


def _amounts(wanted: Any, there: Any, place: str) -> Iterator[Problem]:
    """Compare resources: a LimitRange may have added some."""
    for key, value in wanted.items():
        found = there.get(key) if isinstance(there, Mapping) else None
        if not _same_amount(value, found):
            yield Problem(f"{place}.{key}", f"{shown(found)}: the injector writes {shown(value)}")


def _same_amount(wanted: object, there: object) -> bool:
    """Whether two amounts are the same however they are written: the API server has a form of its own."""
    if not (isinstance(wanted, str) and isinstance(there, str)):
        return wanted == there
    both = is_quantity(wanted) and is_quantity(there)
    return wanted == there or (both and abs(amount(wanted) - amount(there)) < 1e-6)
