"""Label selectors (semantics W2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from policyd.resources.spec import Cel, Items, Spec

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


class LabelExpression(Spec):
    """One requirement on one label."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)",
            "In and NotIn: expected at least one value",
            "self.operator + ' without values: expected at least one'",
        ),
        Cel(
            "self.operator in ['In', 'NotIn'] || !has(self.values) || self.values.size() == 0",
            "Exists and DoesNotExist: expected no values",
            "self.operator + ' with values: expected none'",
        ),
    )

    key: LabelKey
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label's value relates to `values`."""
    values: Annotated[Items[LabelValue], Field(max_length=256)] = ()
    """The values of In and NotIn; none for Exists and DoesNotExist."""

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Self:
        if self.operator in {"In", "NotIn"} and not self.values:
            raise ValueError(f"{self.operator} without values: expected at least one")
        if self.operator in {"Exists", "DoesNotExist"} and self.values:
            raise ValueError(f"{self.operator} with values: expected none")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """NotIn and DoesNotExist hold where the label is absent."""
        value = labels.get(self.key)
        if self.operator == "In":
            return value is not None and value in self.values
        if self.operator == "NotIn":
            return value is None or value not in self.values
        return (value is not None) is (self.operator == "Exists")


class LabelSelector(Spec):
    """Selects objects by their labels; an empty selector selects all."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64, default_factory=dict)]
    """Labels that must have exactly these values."""
    match_expressions: Annotated[Items[LabelExpression], Field(max_length=64)] = ()
    """Requirements that must all hold."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )

    @property
    def keys(self) -> frozenset[str]:
        """The labels that it reads."""
        return frozenset(self.match_labels) | {expression.key for expression in self.match_expressions}
