"""What every object read from a manifest or a cluster is, readable or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from policyd.model.finding import Finding
from policyd.model.names import ObjectKey
from policyd.model.origin import NO_POSITIONS, Authorship, FieldPath, Origin, Positions, parse_path

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Document:
    """One manifest as plain values (dict, list, str, int, float, bool, None) and where they were written."""

    content: Mapping[str, object]
    positions: Positions = NO_POSITIONS
    file: str | None = None
    authorship: Authorship | None = field(default=None, compare=False)

    def origin(self, path: FieldPath | str = (), generation: int | None = None) -> Origin:
        """Where a field was written, or the nearest field around it that is there."""
        line, column = self.positions.find(path) or (0, 0)
        return Origin(self.file, line, column, generation, self.authorship)


@dataclass(frozen=True, slots=True)
class Meta:
    """What we read of `metadata`. `namespace` is "" for cluster-scoped kinds."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    generation: int | None = None
    uid: str | None = None
    deletion: datetime | None = None

    @property
    def age(self) -> tuple[bool, float, str, str]:
        """Sorts the older first (semantics W7): objects without a creation time after all that have one."""
        created = 0.0 if self.created is None else self.created.timestamp()
        return (self.created is None, created, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class _Read:
    """What a readable and an unreadable object have in common. `version` is the apiVersion's last part."""

    key: ObjectKey
    version: str
    meta: Meta
    document: Document = field(repr=False, compare=False)

    @property
    def origin(self) -> Origin:
        """Where the object begins."""
        return self.document.origin((), self.meta.generation)

    @property
    def positions(self) -> Positions:
        return self.document.positions

    def position(self, path: FieldPath | str) -> Origin:
        """Where a field was written: `resource.position("spec.requiredAuthenticationRefs[0].name")`."""
        return self.document.origin(parse_path(path) if isinstance(path, str) else path, self.meta.generation)


@dataclass(frozen=True, slots=True)
class Resource(_Read, Generic[T_co]):
    """An object that could be read. `findings` are what is wrong with it though it can be read."""

    spec: T_co
    findings: tuple[Finding, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Unreadable(_Read):
    """An object of a known place that can't be read (semantics U1).

    `salvage` holds, by the model's attribute name, those fields of `spec` that are valid by themselves; a
    field that was not written is there with its default, a required one that is missing is not. `problems`
    say what is wrong.
    """

    problems: tuple[Finding, ...] = field(compare=False)
    salvage: Mapping[str, object] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.problems
