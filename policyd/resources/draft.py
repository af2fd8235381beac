"""An object while it is being read: what is known of it, and what is wrong with it so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from policyd.model.finding import Finding, Severity
from policyd.model.names import ObjectKey
from policyd.model.origin import FieldPath, path_text
from policyd.resources.base import Document, Meta, Resource, Unreadable
from policyd.resources.checks import Checks
from policyd.resources.problems import explain
from policyd.resources.spec import Reading, Spec, shown

T = TypeVar("T")
S = TypeVar("S", bound=Spec)


@dataclass(slots=True)
class Draft:
    """Collects findings; a reader ends with `resource` or `unreadable`."""

    document: Document
    key: ObjectKey
    version: str
    meta: Meta
    checks: Checks
    findings: list[Finding] = field(default_factory=list)

    @property
    def reading(self) -> Reading:
        """What validators need to know."""
        return Reading(self.key.group, self.meta.namespace, self.checks)

    @property
    def spec(self) -> object:
        """`spec` as written; None where it is absent."""
        return self.document.content.get("spec")

    @property
    def failed(self) -> bool:
        """Whether an error was found so far."""
        return any(finding.severity == "error" for finding in self.findings)

    def add(
        self, code: str, path: FieldPath, message: str, severity: Severity = "error", advice: str = ""
    ) -> None:
        """Note what is wrong with a field."""
        origin = self.document.origin(path, self.meta.generation)
        self.findings.append(Finding(severity, code, message, self.key, path_text(path), origin, advice))

    def mapping(self, value: object, path: FieldPath) -> Mapping[str, object] | None:
        """Return the value as a mapping; notes it and gives None where it is none."""
        if isinstance(value, Mapping):
            return value
        self.add("wrong-type", path, f"{shown(value)}: expected a mapping")
        return None

    def sequence(self, value: object, path: FieldPath) -> list[object] | None:
        """Return the value as a list; notes it and gives None where it is none."""
        if isinstance(value, list):
            return value
        self.add("wrong-type", path, f"{shown(value)}: expected a list")
        return None

    def validate(self, model: type[S], written: object, path: FieldPath) -> S | None:
        """Return the value as a model; notes all that is wrong with it and gives None where anything is."""
        empty = list(nulls(written, path))
        for place in empty:
            self.add("empty-value", place, "nothing written: expected a value, or the field to be absent")
        try:
            read = model.model_validate(written, context=self.reading)
        except ValidationError as error:
            for problem in explain(error, model, written):
                place = path + problem.path
                if place not in empty:
                    self.add(problem.code, place, problem.message, advice=problem.advice)
            return None
        return None if empty else read

    def resource(self, spec: T) -> Resource[T]:
        """Return the object as it was read."""
        return Resource(self.key, self.version, self.meta, self.document, spec, tuple(self.findings))

    def unreadable(self, salvage: Mapping[str, object] | None = None) -> Unreadable:
        """Return the object with what could be read of it."""
        return Unreadable(
            self.key, self.version, self.meta, self.document, tuple(self.findings), dict(salvage or {})
        )


def nulls(value: object, path: FieldPath) -> Iterable[FieldPath]:
    """Find where a field has nothing written: `networks:` must not pass for a field left out (I7)."""
    if value is None:
        yield path
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from nulls(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from nulls(inner, (*path, index))
